"""The real sidecar killed again and again while producers write: nobody's connection breaks, no ack stays away, and
every job ends as its producer said."""

import asyncio
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from sbc_daemon.client import Job
from sbc_daemon.outbox_sqlite import SqliteOutbox
from telemetry_common.clock import SystemClock
from tests.support.survival import SECONDS, Producer, Sidecar, running

pytestmark = pytest.mark.integration
KILLS = 10
LONGEST_LIFE_SECONDS = 0.15


class Crowd:
    """Producers, a thread each, until `over`. `finished` are the jobs that ended, as their producers know it."""

    def __init__(self, sidecar: Sidecar) -> None:
        self.over = threading.Event()
        self.finished: set[str] = set()
        self.troubles: list[str] = []
        self._sidecar = sidecar
        self._threads: list[threading.Thread] = []

    def add(self, kind: Callable[[str], None], name: str) -> None:
        self._threads.append(threading.Thread(target=self._run, args=(kind, name)))
        self._threads[-1].start()

    def end(self) -> None:
        self.over.set()
        for thread in self._threads:
            thread.join()

    def _run(self, kind: Callable[[str], None], name: str) -> None:
        try:
            kind(name)
        except Exception as error:
            self.troubles.append(f"{name}: {error!r}")

    def patient(self, name: str) -> None:
        """One connection, one job after the other; the job is named once, and each word is waited for."""
        with Producer(self._sidecar) as producer:
            number = 0
            while not self.over.is_set():
                number += 1
                job = f"{name}-{number}"
                assert producer.ask(job_id=job, status="running", ack=f"{number}a")["ok"]
                for count in range(20):
                    producer.say(bytes_transferred=count)
                assert producer.ask(current_phase="finalizing", ack=f"{number}b")["ok"]
                assert producer.ask(status="completed", ack=f"{number}c")["ok"]
                self.finished.add(job)

    def torn(self, name: str) -> None:
        """Lines in pieces, several on their way, and no answer waited for before the last."""
        chance = random.Random(name)
        with Producer(self._sidecar) as producer:
            number = 0
            while not self.over.is_set():
                number += 1
                job = f"{name}-{number}"
                text = f'{{"job_id":"{job}","attach":true}}\n{{"current_phase":"transferring","ack":"{number}a"}}\n'
                text += f'{{"bytes_transferred":7}}\n{{"status":"completed","ack":"{number}b"}}\n'
                while text:
                    piece = chance.randint(1, 40)
                    producer.write(text[:piece])
                    text = text[piece:]
                    time.sleep(chance.random() * 0.02)
                assert [producer.heard() for _ in "ab"] == [{"ack": f"{number}{x}", "ok": True} for x in "ab"]
                self.finished.add(job)

    def brief(self, name: str) -> None:
        """A connection for every line, as a script makes them: made again where it broke in the moment of a kill."""
        number = 0
        while not self.over.is_set():
            number += 1
            with suppress(OSError, ValueError), Producer(self._sidecar) as producer:
                assert producer.ask(job_id=f"{name}-{number}", status="completed", ack=number)["ok"]
                self.finished.add(f"{name}-{number}")

    def library(self, name: str) -> None:
        number = 0
        while not self.over.is_set():
            number += 1
            job = Job(f"{name}-{number}", path=self._sidecar.path)
            for count in range(10):
                job.progress(count)
                job.phase(f"phase {count}")
                time.sleep(0.003)
            assert job.done(SECONDS), job.refused
            self.finished.add(f"{name}-{number}")


def completed_jobs(directory: Path) -> set[str]:
    """As the outbox has them."""

    async def read() -> set[str]:
        outbox = SqliteOutbox(directory, 64 << 20, SystemClock())
        jobs = (await outbox.open()).jobs
        await outbox.close()
        return {job.job_id for job in jobs if b'"status":"completed"' in job.snapshot}

    return asyncio.run(read())


def test_kill_after_kill_nothing_is_lost_and_no_connection_breaks(tmp_path: Path) -> None:
    chance = random.Random(5)
    with running(tmp_path) as sidecar:
        crowd = Crowd(sidecar)
        for kind in (crowd.patient, crowd.torn, crowd.library):
            crowd.add(kind, f"{kind.__name__}-a")
            crowd.add(kind, f"{kind.__name__}-b")
        crowd.add(crowd.brief, "brief")
        for _ in range(KILLS):
            time.sleep(chance.random() * LONGEST_LIFE_SECONDS)
            sidecar.again("kill")
        crowd.end()
        assert sidecar.keeper.wait_until_empty(SECONDS)
        sidecar.end("restart")
        log = sidecar.daemon.log()
    assert crowd.troubles == []
    assert crowd.finished - completed_jobs(sidecar.outbox) == set()
    assert "line dropped" not in log
    for name in ("patient", "torn", "library", "brief"):
        assert sum(job.startswith(name) for job in crowd.finished) > 3
