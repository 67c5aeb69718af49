"""Lines at the edges of what is legal: whether they are taken, what is answered, and that nobody else notices."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from telemetry_common.contract import MAX_LINE_BYTES
from tests.support.reporting import Desk, Producer, desk

TAKEN = "taken"
DROPPED = "dropped without a word"


@pytest.fixture
async def counter(tmp_path: Path) -> AsyncIterator[Desk]:
    async with desk(tmp_path) as made:
        yield made


@pytest.fixture
async def producer(counter: Desk) -> AsyncIterator[Producer]:
    made = await Producer.connect(counter.path)
    yield made
    await made.close()


def padded(length: int) -> bytes:
    """A line of so many bytes, its newline included; what fills it is a field that nobody knows."""
    bare = b'{"job_id":"j1","ack":1,"pad":""}\n'
    return bare.replace(b'""', b'"' + b"x" * (length - len(bare)) + b'"')[:-1]


def nested(depth: int) -> bytes:
    return b'{"job_id":"j1","ack":1,"deep":' + b"[" * depth + b"]" * depth + b"}"


def number(field: str, text: str) -> bytes:
    return f'{{"job_id":"j1","ack":1,"{field}":{text}}}'.encode()


LINES: dict[str, tuple[bytes, str]] = {
    "a line of exactly 64 KiB with its newline": (padded(MAX_LINE_BYTES), TAKEN),
    "a line one byte longer": (padded(MAX_LINE_BYTES + 1), DROPPED),
    "a line much longer": (padded(5 * MAX_LINE_BYTES), DROPPED),
    "500 arrays in each other": (nested(500), TAKEN),
    "30,000 arrays in each other": (nested(30_000), DROPPED),
    "a NUL byte": (b'{"job_id":"j1","ack":1,"current_phase":"a\x00b"}', DROPPED),
    "a NUL written as an escape": (b'{"job_id":"j1","ack":1,"current_phase":"a\\u0000b"}', TAKEN),
    "bytes that are no UTF-8 in a field": (b'{"job_id":"j1","ack":1,"current_phase":"\xff"}', "not UTF-8"),
    "bytes that are no UTF-8 at all": (b"\xff\xfe\x00", DROPPED),
    "half of a surrogate pair": (b'{"job_id":"j1","ack":1,"current_phase":"\\ud800"}', DROPPED),
    "a whole surrogate pair": (b'{"job_id":"j1","ack":1,"current_phase":"\\ud83d\\ude00"}', TAKEN),
    "a byte order mark": (b'\xef\xbb\xbf{"job_id":"j1","ack":1}', DROPPED),
    "blanks around it and a carriage return": (b' \t{"job_id":"j1","ack":1} \r', TAKEN),
    "something behind it": (b'{"job_id":"j1","ack":1}x', DROPPED),
    "two objects": (b'{"job_id":"j1","ack":1}{"job_id":"j1","ack":2}', DROPPED),
    "an array": (b'[{"job_id":"j1","ack":1}]', DROPPED),
    "null": (b"null", DROPPED),
    "an unknown field": (b'{"job_id":"j1","ack":1,"colour":{"deep":[1,2]}}', TAKEN),
    "the hub's fields": (b'{"job_id":"j1","ack":1,"seq":5,"age_seconds":3,"idle_seconds":3}', TAKEN),
    "bytes up to 2^63-1": (number("bytes_transferred", str(2**63 - 1)), TAKEN),
    "bytes of 2^63": (number("bytes_transferred", str(2**63)), "$.bytes_transferred"),
    "bytes of 400 digits": (number("bytes_transferred", "1" + "0" * 400), "$.bytes_transferred"),
    "bytes of 5,000 digits": (number("bytes_transferred", "1" + "0" * 5000), "$.bytes_transferred"),
    "bytes with a point": (number("bytes_transferred", "5.0"), "$.bytes_transferred"),
    "bytes with an exponent": (number("bytes_transferred", "1e3"), "$.bytes_transferred"),
    "bytes below 0": (number("bytes_transferred", "-1"), "$.bytes_transferred"),
    "bytes null": (number("bytes_transferred", "null"), "$.bytes_transferred"),
    "an ETA of 4,000 digits": (number("eta_seconds", "1" + "0" * 4000), TAKEN),
    "percent NaN": (number("progress_percent", "NaN"), DROPPED),
    "percent Infinity": (number("progress_percent", "Infinity"), DROPPED),
    "percent beyond a double": (number("progress_percent", "1e400"), "$.progress_percent"),
    "percent of 1e308": (number("progress_percent", "1e308"), TAKEN),
    "percent below 0": (number("progress_percent", "-0.1"), "$.progress_percent"),
    "percent as text": (number("progress_percent", '"5"'), "$.progress_percent"),
    "a status that is none": (number("status", '"Completed"'), "$.status"),
    "a status null": (number("status", "null"), "$.status"),
    "an error as text": (number("error", '"torn"'), "$.error"),
    "an error null": (number("error", "null"), TAKEN),
    "an error's code of 4,000 digits": (number("error", '{"message":"x","code":1' + "0" * 4000 + "}"), TAKEN),
    "a timestamp that is none": (number("timestamp", '"yesterday"'), "$.timestamp"),
    "attach as a number": (number("attach", "1"), "$.attach"),
    "attach null": (number("attach", "null"), "$.attach"),
    "attach false": (number("attach", "false"), TAKEN),
    "a job id of 64 characters": (b'{"ack":1,"job_id":"' + "ä".encode() * 64 + b'"}', TAKEN),
    "a job id of 65 characters": (b'{"ack":1,"job_id":"' + "ä".encode() * 65 + b'"}', "$.job_id"),
    "a job id that would be a path": (b'{"ack":1,"job_id":"../../\\u0000\\n\\u001b[2J"}', TAKEN),
    "hello true": (b'{"ack":1,"hello":true}', "$.hello"),
}


@pytest.mark.parametrize(("line", "expected"), LINES.values(), ids=LINES.keys())
async def test_a_line_at_the_edge(counter: Desk, producer: Producer, line: bytes, expected: str) -> None:
    producer.write(line + b"\n")
    producer.say(job_id="next", ack="next")
    answers = [await producer.heard()]
    if answers[0]["ack"] != "next":
        answers.append(await producer.heard())
    assert answers[-1] == {"ack": "next", "ok": True}
    assert counter.bad.total == (0 if expected is TAKEN else 1)
    if expected in (TAKEN, DROPPED):
        assert answers[:-1] == ([{"ack": 1, "ok": True}] if expected is TAKEN else [])
    else:
        assert (answers[0]["ack"], answers[0]["ok"]) == (1, False)
        assert expected in answers[0]["error"]


ACKS: list[Any] = [1, 0, -1, 2**63, 10**30, "one", "", "\x00", "ü\U0001f600", "x" * 1000, '"\\\n']


@pytest.mark.parametrize("ack", ACKS, ids=repr)
@pytest.mark.parametrize("line", [{"job_id": "j1"}, {"job_id": "j1", "status": "bogus"}], ids=["taken", "refused"])
async def test_an_ack_may_be_any_text_or_integer_and_comes_back_the_same(
    producer: Producer, ack: Any, line: dict[str, str]
) -> None:
    answer = await producer.ask(**line, ack=ack)
    assert (answer["ack"], type(answer["ack"])) == (ack, type(ack))


@pytest.mark.parametrize("ack", ["1.0", "1e2", "true", "null", "[1]", "{}"])
async def test_a_line_with_another_ack_is_refused_and_the_job_it_named_stays_named(
    counter: Desk, producer: Producer, ack: str
) -> None:
    producer.say(job_id="j1", status="running")
    producer.write(f'{{"job_id":"j2","status":"running","ack":{ack}}}\n'.encode())
    assert await producer.ask(status="completed", ack="next") == {"ack": "next", "ok": True}
    assert counter.bad.total == 1
    assert (counter.status("j1"), counter.status("j2")) == ("running", "completed")


async def test_of_a_field_that_is_said_twice_the_last_counts(counter: Desk, producer: Producer) -> None:
    producer.write(b'{"job_id":"j1","job_id":"j2","bytes_transferred":1,"bytes_transferred":2,"ack":1,"ack":2}\n')
    assert await producer.heard() == {"ack": 2, "ok": True}
    last = counter.last("j2")
    assert last is not None
    assert last.bytes_transferred == 2
    assert counter.last("j1") is None


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
async def test_a_line_after_the_end_is_told_how_it_ended_whatever_it_says(producer: Producer, status: str) -> None:
    await producer.ask(job_id="j1", status=status, ack=0)
    for more in ({}, {"bytes_transferred": 5}, {"status": status}, {"error": {"message": "late"}}, {"attach": True}):
        answer = await producer.ask(**more, ack=1)
        assert (answer["ok"], answer["ended"]) == (False, status)


@pytest.mark.parametrize("more", [{}, {"job_id": "j1"}, {"job_id": "j1", "status": "running"}])
async def test_hello_is_answered_at_once_and_the_rest_of_its_line_counts(
    counter: Desk, producer: Producer, more: dict[str, str]
) -> None:
    producer.say(hello=1, ack=1, **more)
    assert (await producer.heard())["hello"]["protocol"] == 1
    assert await producer.heard() == {"ack": 1, "ok": True}
    assert (counter.last() is None) is (not more)


async def test_a_job_id_that_would_be_a_path_reaches_the_hub_as_it_is_and_no_log_as_it_is(
    counter: Desk, producer: Producer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    job_id = "../../\x00\n\x1b[2J"
    await producer.ask(job_id=job_id, ack=1, status="completed")
    message = counter.outbox.kept[-1]
    assert json.loads(message.body(message.taken))["job_id"] == job_id
    assert all(record.getMessage().isprintable() for record in caplog.records)
