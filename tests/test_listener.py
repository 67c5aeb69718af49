"""The socket as producers know it: real connections, lines in, answers out."""

import asyncio
import logging
import os
import random
import resource
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from sbc_daemon.intake import MAX_REPORTERS
from sbc_daemon.listener import SocketInUse, bind, listening_socket
from sbc_daemon.processes import Peer
from telemetry_common import __version__
from tests.support.reporting import Desk, Producer, descriptor_store, desk


@pytest.fixture(params=[False, True], ids=["no store", "descriptor store"])
async def counter(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Desk]:
    with descriptor_store(tmp_path) if request.param else nullcontext() as store:
        async with desk(tmp_path, store=store) as made:
            yield made


@pytest.fixture
async def producer(counter: Desk) -> AsyncIterator[Producer]:
    made = await Producer.connect(counter.path)
    yield made
    await made.close()


async def test_a_line_is_acknowledged_when_it_is_kept(counter: Desk, producer: Producer) -> None:
    assert await producer.ask(job_id="j1", bytes_transferred=5, ack="one") == {"ack": "one", "ok": True}
    assert counter.last() is not None


async def test_without_an_ack_nothing_is_ever_written_back(counter: Desk, producer: Producer) -> None:
    producer.write(b'{"job_id":"j1","bytes_transferred":5}\nnot json\n{"status":"bogus"}\n')
    producer.finish()
    assert await producer.rest() == b""
    assert counter.bad.total == 2


async def test_the_job_id_stays_the_last_one_named(counter: Desk, producer: Producer) -> None:
    producer.say(job_id="j1", status="running")
    producer.say(job_id="j2", status="running")
    assert await producer.ask(status="completed", ack=1) == {"ack": 1, "ok": True}
    assert (counter.status("j1"), counter.status("j2")) == ("running", "completed")


async def test_what_follows_a_bad_line_is_meant_for_the_job_it_named(counter: Desk, producer: Producer) -> None:
    producer.say(job_id="j1", status="running")
    producer.say(job_id="j2", status="bogus")
    await producer.ask(status="completed", ack=1)
    assert (counter.status("j1"), counter.status("j2")) == ("running", "completed")


async def test_a_first_line_without_a_job_is_told_so(counter: Desk, producer: Producer) -> None:
    answer = await producer.ask(status="running", ack=1)
    assert answer["ok"] is False
    assert "the first line of a connection needs a job_id" in answer["error"]


async def test_hello_is_answered_with_version_and_protocol(counter: Desk, producer: Producer) -> None:
    assert await producer.ask(hello=1) == {"hello": {"version": __version__, "protocol": 1}}
    assert await producer.ask(hello=1, ack=2) == {"hello": {"version": __version__, "protocol": 1}}
    assert await producer.heard() == {"ack": 2, "ok": True}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"job_id":"j1","status":"bogus","ack":1}', "expected one of pending, running"),
        (b'{"job_id":"j1","bytes_transferred":"5","ack":1}', "$.bytes_transferred"),
        (b'{"job_id":"j1","bytes_transferred":-1,"ack":1}', "$.bytes_transferred"),
        (b'{"job_id":"j1","bytes_transferred":9223372036854775808,"ack":1}', "$.bytes_transferred"),
        (b'{"job_id":5,"ack":1}', "$.job_id"),
        (b'{"job_id":"","ack":1}', "$.job_id"),
        (b'{"job_id":"j1","disks":[{"disk_index":0},{"disk_index":0}],"ack":1}', "more than once"),
        (b'{"job_id":"j1","attach":{"disks":[],"of":2},"ack":1}', "$.attach.disks"),
        (b'{"job_id":"j1","attach":{"disks":[0,1,2],"of":2},"ack":1}', "more disks are named"),
    ],
)
async def test_a_bad_line_is_answered_with_the_reason(
    counter: Desk, producer: Producer, line: bytes, reason: str
) -> None:
    producer.write(line + b"\n")
    answer = await producer.heard()
    assert (answer["ack"], answer["ok"]) == (1, False)
    assert reason in answer["error"]
    assert counter.last() is None


@pytest.mark.parametrize(
    "line",
    [b"not json", b'{"job_id":"j1","progress_percent":NaN}', b"[1]", b"\xff\xfe", b'{"job_id":"j1"', b"[" * 60_000],
)
async def test_a_bad_line_costs_nobody_but_itself(counter: Desk, producer: Producer, line: bytes) -> None:
    producer.write(line + b"\n\r\n \n")
    assert await producer.ask(job_id="j1", ack=1) == {"ack": 1, "ok": True}
    assert counter.bad.total == 1


async def test_a_line_after_the_end_is_refused(counter: Desk, producer: Producer) -> None:
    await producer.ask(job_id="j1", status="completed", ack=1)
    answer = await producer.ask(status="running", ack=2)
    assert (answer["ok"], answer["ended"]) == (False, "completed")
    assert "a new run needs a new job_id" in answer["error"]


async def test_a_bad_producer_is_complained_about_once_a_minute(
    counter: Desk, producer: Producer, caplog: pytest.LogCaptureFixture
) -> None:
    producer.write(b"bad\n" * 1000)
    await producer.ask(job_id="j1", ack=1)
    complaints = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(complaints) == 1
    assert f"line dropped uid={os.getuid()} pid={os.getpid()}" in complaints[0]
    assert counter.bad.total == 1000


async def test_who_reports_a_job_is_logged_once_however_often_it_connects(
    counter: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(5):
        producer = await Producer.connect(counter.path)
        for _ in range(3):
            await producer.ask(job_id="j1", ack=1)
        await producer.close()
    assert reported(caplog) == [f"job reported job=j1 uid={os.getuid()} pid={os.getpid()}"]


async def test_every_user_who_reports_a_job_is_logged_once_up_to_a_number(
    counter: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for uid in [*range(1000, 1000 + MAX_REPORTERS + 5)] * 2:
        counter.converse(Peer(uid, 1, None), lambda _: None).feed(b'{"job_id":"j1"}\n')
    assert reported(caplog) == [f"job reported job=j1 uid={1000 + n} pid=1" for n in range(MAX_REPORTERS)]


def reported(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.getMessage().startswith("job reported")]


async def test_a_gigabyte_without_a_newline_is_dropped_in_bounded_memory_and_others_carry_on(
    counter: Desk, producer: Producer
) -> None:
    other = await Producer.connect(counter.path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(1024):
        producer.write(b"x" * (1 << 20))
        await producer.drain()
    assert await other.ask(job_id="other", ack=1) == {"ack": 1, "ok": True}
    producer.write(b"\n")
    assert await producer.ask(job_id="j1", ack=2) == {"ack": 2, "ok": True}
    assert counter.bad.total == 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 << 10  # KiB
    await other.close()


async def test_a_producer_that_sends_a_byte_at_a_time_is_understood_and_delays_nobody(
    counter: Desk, producer: Producer
) -> None:
    other = await Producer.connect(counter.path)
    for number, byte in enumerate(b'{"job_id":"slow","ack":1}\n'):
        producer.write(bytes([byte]))
        assert await other.ask(job_id="other", ack=number) == {"ack": number, "ok": True}
    assert await producer.heard() == {"ack": 1, "ok": True}
    await other.close()


@pytest.mark.parametrize(
    "flood",
    [
        b"x\n" * 100_000,
        b'{"job_id":"j2","current_phase":"one"}\n{"current_phase":"two"}\n' * 3_000,
        b'{"job_id":"j2","bytes_transferred":1}\n' * 20_000,
    ],
    ids=["bad lines", "changes of state", "progress"],
)
async def test_who_floods_does_not_keep_others_waiting(counter: Desk, producer: Producer, flood: bytes) -> None:
    flooding = await Producer.connect(counter.path)
    flooding.write(flood)
    assert await producer.ask(job_id="j1", status="running", ack=1) == {"ack": 1, "ok": True}
    assert counter.intake.lines + counter.bad.total < flood.count(b"\n") / 2
    await flooding.drain()
    await flooding.close()


async def test_a_producer_that_never_reads_its_answers_does_not_jam(counter: Desk) -> None:
    deaf = await Producer.connect(counter.path)
    for number in range(40_000):
        deaf.say(job_id="deaf", ack=f"{number:0100}")
    await asyncio.wait_for(deaf.drain(), 20)
    deaf.say(job_id="deaf", status="completed")
    await counter.until(lambda: counter.status("deaf") == "completed", 20)
    assert counter.listener.answers_dropped > 0
    await deaf.close()


async def test_a_producer_that_half_closes_still_gets_its_answer(counter: Desk, producer: Producer) -> None:
    producer.say(job_id="j1", status="completed", ack=1)
    producer.finish()
    assert await producer.rest() == b'{"ack":1,"ok":true}\n'


async def test_a_last_line_without_its_newline_counts(counter: Desk, producer: Producer) -> None:
    producer.write(b'{"job_id":"j1","status":"completed"}')
    producer.finish()
    await counter.until(lambda: counter.status() == "completed")


async def test_connections_over_the_limit_are_closed_and_counted(tmp_path: Path) -> None:
    async with desk(tmp_path, max_connections=2) as counter:
        kept = [await Producer.connect(counter.path) for _ in range(2)]
        turned_away = await Producer.connect(counter.path)
        assert await turned_away.rest() == b""
        assert counter.listener.turned_away.total == 1
        assert await kept[0].ask(job_id="j1", ack=1) == {"ack": 1, "ok": True}
        for producer in [*kept, turned_away]:
            await producer.close()


async def test_stopping_takes_in_and_answers_what_was_written(tmp_path: Path) -> None:
    async with desk(tmp_path) as counter:
        producers = [await Producer.connect(counter.path) for _ in range(20)]
        for number, producer in enumerate(producers):
            producer.say(job_id=f"job-{number}", status="completed", ack=number)
    for number, producer in enumerate(producers):
        assert counter.status(f"job-{number}") == "completed"
        assert await producer.rest() == b'{"ack":%d,"ok":true}\n' % number
        await producer.close()


async def test_no_mutated_line_breaks_the_daemon(counter: Desk, producer: Producer) -> None:
    chance = random.Random(7)
    good = b'{"job_id":"m1","status":"running","bytes_transferred":5,"disks":[{"disk_index":0}],"ack":1,"attach":true}'
    for _ in range(3000):
        line = bytearray(good)
        for _ in range(chance.randint(1, 4)):
            line[chance.randrange(len(line))] = chance.randrange(256)
        producer.write(bytes(line) + b"\n")
        await producer.drain()
    producer.say(job_id="j1", status="completed")
    await counter.until(lambda: counter.status() == "completed")


def test_the_socket_is_for_its_owner_and_group_only(tmp_path: Path) -> None:
    path = tmp_path / "progress.sock"
    with bind(str(path)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660


def test_a_stale_socket_file_is_replaced(tmp_path: Path) -> None:
    path = str(tmp_path / "progress.sock")
    bind(path).close()
    with bind(path), socket.socket(socket.AF_UNIX) as client:
        client.connect(path)


def test_a_socket_that_somebody_answers_on_is_left_alone(tmp_path: Path) -> None:
    path = str(tmp_path / "progress.sock")
    with bind(path), pytest.raises(SocketInUse, match="another process answers there"):
        bind(path)


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "progress.sock"
    path.write_text("precious")
    with pytest.raises(SocketInUse, match=r"cannot listen on .*Address already in use"):
        bind(str(path))
    assert path.read_text() == "precious"


def test_the_socket_that_systemd_made_is_taken_by_its_name(tmp_path: Path) -> None:
    path = str(tmp_path / "progress.sock")
    with bind(path) as made:
        assert listening_socket(path, {"sbc-daemon.socket": [made]}) is made
        with pytest.raises(SocketInUse, match=r"make socket\.path and a drop-in for ListenStream= agree"):
            listening_socket("/run/elsewhere.sock", {"sbc-daemon.socket": [made]})
