"""Restarts and kills of the real sidecar under systemd's descriptor store (`testbed.descriptor_keeper`): what producers
notice of them, which is nothing, and what becomes of their jobs."""

import os
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from sbc_daemon.client import Job
from tests.support.survival import SECONDS, Child, Producer, Sidecar, running

pytestmark = pytest.mark.integration
ENDINGS = [pytest.param("restart", id="restart"), pytest.param("kill", id="kill -9")]


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[Sidecar]:
    with running(tmp_path) as made:
        yield made


@pytest.mark.parametrize("how", ENDINGS)
def test_a_connection_outlives_the_daemon_with_the_job_that_it_named(sidecar: Sidecar, how: str) -> None:
    with Producer(sidecar) as producer:
        assert producer.ask(job_id="j1", status="running", ack=1) == {"ack": 1, "ok": True}
        sidecar.again(how)
        assert producer.ask(bytes_transferred=7, ack=2) == {"ack": 2, "ok": True}
        sidecar.until("j1", bytes_transferred=7)
        assert how == "kill" or producer.repeated == 0


@pytest.mark.parametrize("how", ENDINGS)
def test_a_connection_that_has_said_nothing_yet_outlives_the_daemon(sidecar: Sidecar, how: str) -> None:
    with Producer(sidecar) as producer:
        assert producer.ask(hello=1)["hello"]["protocol"] == 1
        sidecar.again(how)
        assert producer.ask(job_id="j1", ack=1) == {"ack": 1, "ok": True}


@pytest.mark.parametrize("pause", [0.0, 0.5], ids=["just read", "read long ago"])
@pytest.mark.parametrize("how", ENDINGS)
def test_a_producer_in_the_middle_of_a_line_does_not_notice(sidecar: Sidecar, how: str, pause: float) -> None:
    with Producer(sidecar) as producer:
        producer.ask(job_id="j1", ack=1)
        producer.write('{"current_phase":"trans')
        time.sleep(pause)
        for rest in ("ferr", 'ing","ack":2}\n'):
            sidecar.again(how)
            producer.write(rest)
        assert producer.heard() == {"ack": 2, "ok": True}
        sidecar.until("j1", current_phase="transferring")


@pytest.mark.parametrize("how", ENDINGS)
def test_what_is_written_while_nobody_listens_is_read_afterwards(sidecar: Sidecar, how: str) -> None:
    with Producer(sidecar) as producer:
        producer.ask(job_id="j1", ack=1)
        sidecar.end(how)
        producer.say(bytes_transferred=5)
        producer.say(status="completed", ack=2)
        sidecar.daemon.start()
        assert producer.heard() == {"ack": 2, "ok": True}
        sidecar.until("j1", status="completed", bytes_transferred=5)


@pytest.mark.parametrize("how", ENDINGS)
def test_a_producer_that_writes_its_end_and_hangs_up_meanwhile_is_heard(sidecar: Sidecar, how: str) -> None:
    with Producer(sidecar) as producer:
        producer.ask(job_id="j1", ack=1)
        sidecar.end(how)
        producer.say(status="completed")
    sidecar.daemon.start()
    sidecar.until("j1", status="completed")
    assert sidecar.keeper.wait_until_empty(SECONDS)


def test_a_share_is_still_known_after_a_kill(sidecar: Sidecar) -> None:
    with Producer(sidecar) as first:
        first.ask(job_id="j1", attach={"disks": [0], "of": 2}, ack=1)
        time.sleep(0.3)
        sidecar.again("kill")
        assert first.ask(status="completed", ack=2) == {"ack": 2, "ok": True}
        sidecar.until("j1", status="running")


@pytest.mark.parametrize("how", ENDINGS)
def test_who_was_attached_stays_so_and_its_death_is_noticed(sidecar: Sidecar, how: str) -> None:
    with Child(sidecar) as child:
        child.say(job_id="j1", attach=True, status="running", ack=1)
        sidecar.again(how)
        sidecar.until("j1", status="running", attached=True)
        child.kill()
        sidecar.until("j1", status="failed")
    assert f"backup process (pid {child.pid}) ended without reporting an outcome" in sidecar.daemon.log()
    assert sidecar.keeper.wait_until_empty(SECONDS)


@pytest.mark.parametrize("how", ENDINGS)
def test_a_death_while_the_daemon_is_away_is_noticed_afterwards(sidecar: Sidecar, how: str) -> None:
    with Child(sidecar) as child:
        child.say(job_id="j1", attach=True, status="running", ack=1)
        child.say(job_id="j2", attach=True, status="running", ack=2)
        time.sleep(0.3)
        sidecar.end(how)
        child.say(status="completed")
        child.kill()
    sidecar.daemon.start()
    sidecar.until("j1", status="failed")
    sidecar.until("j2", status="completed")
    assert sidecar.keeper.wait_until_empty(SECONDS)


@pytest.mark.parametrize("how", ENDINGS)
def test_a_script_that_was_attached_by_its_pidfd_stays_so(sidecar: Sidecar, how: str) -> None:
    script = "sbc-report start --job script-1 && echo started && read _; kill -9 $$"
    programs = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "SBC_SOCKET": sidecar.path}
    with subprocess.Popen(
        ["bash", "-c", script], env=programs, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as shell:
        assert shell.stdout
        assert shell.stdin
        assert shell.stdout.readline() == "started\n"
        sidecar.again(how)
        sidecar.until("script-1", status="running", attached=True)
        shell.stdin.write("\n")
        shell.stdin.flush()
        shell.wait(SECONDS)
        sidecar.until("script-1", status="failed")


def test_of_what_nobody_knows_nothing_stays(sidecar: Sidecar) -> None:
    sidecar.end("kill")
    strangers = [socket.socketpair() for _ in range(2)]
    for name, (theirs, _) in zip(("stored", "process-0123456789abcdef"), strangers, strict=True):
        sidecar.keeper.put(name, theirs.detach())
    sidecar.daemon.start()
    for _, ours in strangers:
        ours.settimeout(SECONDS)
        assert ours.recv(1) == b""
        ours.close()
    assert "producers taken over descriptors=0 unknown=2" in sidecar.daemon.log()
    assert sidecar.keeper.names == []


def test_where_the_outbox_was_lost_connections_are_read_out_and_closed(sidecar: Sidecar) -> None:
    """Who has the library at the other end connects again, and says everything again."""
    with Producer(sidecar) as producer:
        producer.ask(job_id="j1", ack=1)
        sidecar.end("kill")
        for file in sidecar.outbox.glob("outbox.db*"):
            file.write_bytes(b"no database" * 1000)
        producer.say(job_id="j1", status="completed", ack=2)
        sidecar.daemon.start()
        assert producer.heard() == {"ack": 2, "ok": True}
        assert producer.hung_up()
    assert sidecar.keeper.wait_until_empty(SECONDS)


@pytest.mark.parametrize(("capacity", "believed"), [(0, 0), (0, 1536)], ids=["none wanted", "none there"])
def test_without_a_store_connections_end_with_the_daemon_and_the_library_makes_new_ones(
    tmp_path: Path, capacity: int, believed: int
) -> None:
    with running(tmp_path, capacity, believed) as sidecar, Producer(sidecar) as producer:
        job = Job("library-1", path=sidecar.path)
        producer.ask(job_id="j1", ack=1)
        sidecar.until("library-1", attached=True)
        sidecar.end("restart")
        assert producer.hung_up()
        sidecar.daemon.start()
        assert job.done(SECONDS)
        sidecar.until("library-1", status="completed")


def test_what_is_more_than_the_store_takes_is_not_kept_and_that_is_said_once(tmp_path: Path) -> None:
    with running(tmp_path, 2) as sidecar, ExitStack() as stack:
        producers = [stack.enter_context(Producer(sidecar)) for _ in range(5)]
        for number, producer in enumerate(producers):
            producer.ask(job_id=f"j{number}", ack=1)
        sidecar.again("restart")
        assert [producer.hung_up() for producer in producers[2:]] == [True] * 3
        for producer in producers[:2]:
            assert producer.ask(ack=2) == {"ack": 2, "ok": True}
        assert sidecar.daemon.log().count("descriptor store is full") == 1


def test_a_connection_that_is_over_leaves_nothing_behind(sidecar: Sidecar) -> None:
    for number in range(50):
        with Producer(sidecar) as producer:
            producer.say(job_id=f"j{number}", status="completed", ack=1)
            producer.socket.shutdown(socket.SHUT_WR)
            assert producer.heard() == {"ack": 1, "ok": True}
            assert producer.hung_up()
    assert sidecar.keeper.wait_until_empty(SECONDS)
    sidecar.end("restart")
    with closing(sqlite3.connect(sidecar.outbox / "outbox.db")) as outbox:
        assert outbox.execute("SELECT count(*) FROM survivor").fetchall() == [(0,)]


NAMESPACE = ["unshare", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc"]
"""Of its own processes; also for who is not root."""
SCENES = [*NAMESPACE, sys.executable, "-m", "tests.support.pid_scenes"]


def in_namespace(*arguments: str) -> None:
    """Run one of the scenes of `tests.support.pid_scenes` as root of a PID namespace of its own."""
    done = subprocess.run([*SCENES, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_a_pid_that_was_given_to_another_process_meanwhile_is_no_life_sign(tmp_path: Path) -> None:
    in_namespace("reused", str(tmp_path))


def test_a_producer_from_another_pid_namespace_goes_on_unattached_and_that_is_said_once(tmp_path: Path) -> None:
    """The sidecar is in a namespace of its own; this process is not in there."""
    with subprocess.Popen(
        [*SCENES, "serve", str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as running_there:
        assert running_there.stdout
        assert running_there.stdout.readline() == "ready\n"
        with Job("foreign-1", path=str(tmp_path / "progress.sock")) as job:
            job.phase("snapshot")
            job.phase("transferring")
            assert job.done(SECONDS)
        running_there.communicate("end\n", timeout=SECONDS)
    said = (tmp_path / "sbc-daemon.log").read_text("utf-8")
    assert said.count("job goes on unattached") == 1
    assert "its process lives in another PID namespace" in said
