"""`sbcctl` as the operator meets it: what it prints and its exit codes."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import structs

from sbc_daemon import sbcctl_views as views
from sbc_daemon.control import ControlServer
from sbc_daemon.outbox import DeadLetter
from sbc_daemon.sbcctl import FINE, NEEDS_A_LOOK, NO_DAEMON, main
from sbc_daemon.status import MAX_LETTERS, HeldLane, HubState, JobState, OutboxState, Status
from tests.support.fixed_letters import FixedLetters

GIB = 1 << 30
CALM = Status(
    version="0.1.0",
    pid=4711,
    started_at=1_760_000_000.0,
    hub=HubState(
        url="http://127.0.0.1:8082", link="up", since_seconds=61.0, last_answer="204", last_answer_seconds=2.0
    ),
    outbox=OutboxState(
        states=0, progress=1, samples=0, dead_letters=0, bytes_used=40960, max_bytes=64 << 20, oldest_seconds=2.0
    ),
    counters={},
    jobs=(
        JobState(
            job_id="backup-1",
            status="running",
            current_phase="transferring",
            progress_percent=42.04,
            bytes_transferred=3 * GIB,
            total_bytes=8 * GIB,
            transfer_speed_bps=100 << 20,
            eta_seconds=51,
            attached=True,
            pids=(4711,),
            waiting=True,
            hub_status="running",
        ),
    ),
)


def with_job(**changes: Any) -> Status:
    return structs.replace(CALM, jobs=(structs.replace(CALM.jobs[0], **changes),))


HELD = HeldLane(job_id="ghost", status=404, reason="404 no such job", since_seconds=90.0)
TROUBLED = [
    (structs.replace(CALM, hub=structs.replace(CALM.hub, link="down")), "hub unreachable for 1m1s"),
    (structs.replace(CALM, held=(HELD,)), "1 job held"),
    (with_job(hub_status="cancelled"), "backup-1 is cancelled on the hub"),
    (with_job(status="completed", hub_status="failed", waiting=False), "backup-1 is failed on the hub"),
    (structs.replace(CALM, outbox=structs.replace(CALM.outbox, dead_letters=2)), "2 dead letters"),
    (structs.replace(CALM, outbox=structs.replace(CALM.outbox, in_memory=1)), "1 job only in memory (outbox full?)"),
    (structs.replace(CALM, outbox=structs.replace(CALM.outbox, moved_aside=1)), "a damaged outbox was moved aside"),
]
LETTER = DeadLetter(letter_id=3, job_id="j\n1", seq=7, status=400, reason="400 no", at=1_760_000_000.0, body=b'{"a":1}')


class Box:
    """The daemon's two sockets with fixed answers, and the configuration that names them."""

    def __init__(self, directory: Path) -> None:
        self.config = directory / "config.toml"
        self.control = directory / "control.sock"
        self.progress = directory / "progress.sock"
        self.config.write_text(f'[socket]\npath = "{self.progress}"\ncontrol = "{self.control}"\n')
        self.status = CALM
        self.letters = FixedLetters()
        self.heard: list[bytes] = []

    async def get_status(self) -> Status:
        return self.status

    async def producer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = await reader.readline()
        self.heard.append(line)
        said = json.loads(line)
        answer = {"ack": said["ack"], "ok": "job_id" in said} | ({} if "job_id" in said else {"error": "no `job_id`"})
        writer.write(json.dumps(answer).encode() + b"\n")
        writer.close()

    async def run(self, *arguments: str) -> int:
        return await asyncio.to_thread(main, [*arguments, "--config", str(self.config)])


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[Box]:
    box = Box(tmp_path)
    control = ControlServer(box.get_status, box.letters)
    await control.start(box.control)
    producers = await asyncio.start_unix_server(box.producer, box.progress)
    yield box
    producers.close()
    await control.close()


async def test_status_when_all_is_well(box: Box, capsys: pytest.CaptureFixture[str]) -> None:
    assert await box.run("status") == FINE
    assert capsys.readouterr().out.splitlines() == [
        "sbc-daemon 0.1.0 (pid 4711): all is well, 1 job",
        "JOB       STATUS   PHASE         PRODUCER  HUB SAYS",
        "backup-1  running  transferring  pid 4711  running",
        "  [#####-------]  42.0 %  3.0 GiB of 8.0 GiB  100.0 MiB/s  51s left  waiting for the hub",
        "outbox  0 states, 1 progress, 0 samples waiting, oldest 2s",
        "disk    40.0 KiB of 64.0 MiB (0 %) in use",
        "hub     http://127.0.0.1:8082 up for 1m1s",
        "answer  204, 2s ago",
    ]


@pytest.mark.parametrize(("status", "words"), TROUBLED)
async def test_trouble_is_in_the_headline_and_the_exit_code(
    box: Box, status: Status, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    box.status = status
    assert await box.run("status") == NEEDS_A_LOOK
    assert words in capsys.readouterr().out.splitlines()[0]


async def test_a_hub_that_is_used_in_place_of_the_first_is_said_so(
    box: Box, capsys: pytest.CaptureFixture[str]
) -> None:
    box.status = structs.replace(CALM, hub=structs.replace(CALM.hub, first_url="https://hub.example"))
    assert await box.run("status") == FINE
    shown = capsys.readouterr().out.splitlines()[-2]
    assert shown == "hub     http://127.0.0.1:8082 up for 1m1s, in place of https://hub.example"


async def test_what_holds_many_jobs_alike_is_one_line(box: Box, capsys: pytest.CaptureFixture[str]) -> None:
    lanes = [structs.replace(HELD, job_id=f"j{n}", status=401, reason="401 a token is needed") for n in range(3)]
    box.status = structs.replace(CALM, held=(HELD, *lanes))
    await box.run("status")
    shown = capsys.readouterr().out.splitlines()
    assert shown[-2:] == ["held    ghost: 404 no such job for 1m30s", "held    3 jobs: 401 a token is needed for 1m30s"]


@pytest.mark.parametrize(
    "status",
    [
        with_job(hub_status="pending"),
        with_job(status="completed", hub_status="running", waiting=True),
        with_job(status="completed", hub_status="completed"),
        with_job(hub_status=None),
    ],
    ids=["not yet", "end under way", "agreed", "not heard"],
)
def test_a_hub_that_will_only_hear_of_it_contradicts_nobody(status: Status) -> None:
    assert views.troubles(status) == []


def test_what_the_hub_ended_otherwise_catches_the_eye() -> None:
    line = views.status(with_job(hub_status="cancelled"), views.STYLED).splitlines()[2]
    assert line == "\x1b[1;31mbackup-1  running  transferring  pid 4711  ! cancelled\x1b[0m"


def test_jobs_that_ended_are_a_line_each_and_only_the_latest() -> None:
    ended = tuple(JobState(job_id=f"j{n}", status="completed", hub_status="completed") for n in range(30))
    shown = views.status(structs.replace(CALM, jobs=(*ended, CALM.jobs[0]))).splitlines()
    assert shown[2].startswith("backup-1")
    assert [line.split()[0] for line in shown[4:14]] == [f"j{n}" for n in range(10)]
    assert shown[14] == "... and 20 jobs that ended before"


def test_it_fits_into_eighty_columns_for_jobs_as_they_are() -> None:
    """The name as on the API page, terabytes, a slow link."""
    job = structs.replace(
        CALM.jobs[0],
        job_id="backup-pgtest1-1728518400",
        bytes_transferred=1023 << 30,
        total_bytes=1023 << 30,
        waiting=False,
        eta_seconds=86399,
        progress_percent=100.0,
        pids=(1234567, 2, 3),
        hub_status="cancelled",
    )
    shown = views.status(structs.replace(CALM, jobs=(job,))).splitlines()[1:]
    assert max(map(len, shown)) <= 80


def test_a_screen_that_is_too_small_shows_the_beginning() -> None:
    assert views.fitting("a\nb\nc", 3) == "a\nb\nc"
    assert views.fitting("a\nb\nc\nd", 3) == "a\nb\n..."


@pytest.mark.integration
async def test_watching_goes_on_until_it_is_interrupted(box: Box) -> None:
    watching = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sbc_daemon.sbcctl", "status", "--json", "--watch", "0.1", "--config", str(box.config),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert watching.stdout is not None
    first, second = await watching.stdout.readline(), await watching.stdout.readline()
    assert msgspec.json.decode(first, type=Status) == msgspec.json.decode(second, type=Status) == CALM
    watching.send_signal(signal.SIGINT)
    assert await watching.wait() == FINE


async def test_status_as_json_is_all_of_it(box: Box, capsys: pytest.CaptureFixture[str]) -> None:
    assert await box.run("status", "--json") == FINE
    assert msgspec.json.decode(capsys.readouterr().out, type=Status) == CALM


async def test_status_as_json_moves_no_cursor_either(box: Box, capsys: pytest.CaptureFixture[str]) -> None:
    nasty = "\x9b2J\u202e\n"
    box.status = structs.replace(CALM, held=(structs.replace(HELD, reason=nasty),))
    await box.run("status", "--json")
    shown = capsys.readouterr().out
    assert shown.rstrip("\n").isprintable()
    assert json.loads(shown)["held"][0]["reason"] == nasty


async def test_send_asks_for_an_answer_and_shows_it(box: Box, capsys: pytest.CaptureFixture[str]) -> None:
    assert await box.run("send", '{"job_id": "j1", "bytes_transferred": 5}') == FINE
    assert json.loads(box.heard[0]) == {"ack": "sbcctl", "job_id": "j1", "bytes_transferred": 5}
    assert json.loads(capsys.readouterr().out) == {"ack": "sbcctl", "ok": True}


async def test_a_line_that_is_not_taken_is_an_exit_code(box: Box, capsys: pytest.CaptureFixture[str]) -> None:
    assert await box.run("send", '{"ack": 5}') == NEEDS_A_LOOK
    assert json.loads(capsys.readouterr().out) == {"ack": 5, "ok": False, "error": "no `job_id`"}


@pytest.mark.parametrize(
    "line",
    ["not json", "[1]", '"text"', "", '{"a":' * 20_000, json.dumps({"job_id": "j1", "x": "y" * 65_536})],
    ids=["no JSON", "array", "text", "nothing", "nested deeply", "over-long"],
)
async def test_what_is_no_object_is_not_sent(box: Box, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert await box.run("send", line) == NO_DAEMON
    assert capsys.readouterr().err.startswith("sbcctl: cannot send this line: ")
    assert box.heard == []


async def test_dead_letters_are_listed_and_shown_escaped(box: Box, capsys: pytest.CaptureFixture[str]) -> None:
    box.letters.letters = [LETTER]
    assert await box.run("dead-letters", "list") == NEEDS_A_LOOK
    assert capsys.readouterr().out.splitlines()[1] == "3   2025-10-09 08:53:20Z  j\\n1  400 no"
    assert await box.run("dead-letters", "show", "3") == FINE
    assert '{"a":1}' in capsys.readouterr().out


async def test_that_there_are_more_letters_than_are_listed_is_said(
    box: Box, capsys: pytest.CaptureFixture[str]
) -> None:
    box.letters.letters = [structs.replace(LETTER, letter_id=n) for n in range(1, MAX_LETTERS + 2)]
    await box.run("dead-letters", "list")
    listed = capsys.readouterr().out.splitlines()
    assert len(listed) == 1 + MAX_LETTERS + 1
    assert listed[-1].startswith("... the oldest only")


async def test_dead_letters_as_json(box: Box, capsys: pytest.CaptureFixture[str]) -> None:
    box.letters.letters = [LETTER]
    assert await box.run("dead-letters", "list", "--json") == NEEDS_A_LOOK
    (listed,) = json.loads(capsys.readouterr().out)
    assert await box.run("dead-letters", "show", "3", "--json") == FINE
    assert json.loads(capsys.readouterr().out) == listed
    assert (listed["letter_id"], listed["body"]) == (3, '{"a":1}')


@pytest.mark.parametrize(
    ("action", "words"),
    [("retry", "sent again; `sbcctl status` shows what the hub says of them"), ("delete", "deleted")],
)
async def test_dead_letters_are_retried_or_deleted_one_by_one_or_all(
    box: Box, action: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    box.letters.letters = [structs.replace(LETTER, letter_id=n) for n in range(1, 6)]
    assert await box.run("dead-letters", action, "2", "9", "3") == NEEDS_A_LOOK
    said = f"2 dead letters {words}\nthere is no dead letter with the number 9\n"
    assert capsys.readouterr().out == said
    assert await box.run("dead-letters", action, "--all") == FINE
    assert capsys.readouterr().out == f"3 dead letters {words}\n"
    assert await box.run("dead-letters", action, "--all") == FINE
    assert capsys.readouterr().out == f"0 dead letters {words}\n"


@pytest.mark.parametrize("arguments", [["retry"], ["delete"], ["delete", "3", "--all"]])
async def test_which_letters_are_meant_must_be_said(box: Box, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        await box.run("dead-letters", *arguments)
    assert stopped.value.code == 2
    assert box.letters.done == []


async def test_a_disk_that_does_not_let_letters_go_is_said(box: Box, capsys: pytest.CaptureFixture[str]) -> None:
    box.letters.broken = True
    assert await box.run("dead-letters", "delete", "--all") == NO_DAEMON
    assert capsys.readouterr().err == "sbcctl: cannot write the outbox\n"


async def test_no_dead_letters_is_fine(box: Box, capsys: pytest.CaptureFixture[str]) -> None:
    assert await box.run("dead-letters", "list") == FINE
    assert capsys.readouterr().out == "no dead letters\n"


async def test_a_number_without_a_letter_is_said(box: Box, capsys: pytest.CaptureFixture[str]) -> None:
    assert await box.run("dead-letters", "show", "9") == NEEDS_A_LOOK
    assert capsys.readouterr().err == "sbcctl: there is no dead letter with the number 9\n"


def test_without_a_daemon_it_says_what_to_look_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    box = Box(tmp_path)
    for command in (["status"], ["dead-letters", "list"], ["send", "{}"]):
        assert main([*command, "--config", str(box.config)]) == NO_DAEMON
        err = capsys.readouterr().err
        assert err.startswith(f"sbcctl: cannot reach the daemon at {tmp_path}")
        assert "is sbc-daemon running?" in err


def test_nothing_from_outside_moves_the_cursor() -> None:
    nasty = "\x1b[2J\n"
    job = JobState(job_id=nasty, status=nasty, current_phase=nasty, hub_status=nasty)
    hub = HubState(url=nasty, link="up", last_error=nasty)
    text = views.status(structs.replace(CALM, jobs=(job,), hub=hub, held=(structs.replace(HELD, reason=nasty),)))
    assert "\x1b" not in text
    assert len(text.splitlines()) == 8


def test_help_names_the_commands_and_the_exit_codes() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "sbc_daemon.sbcctl", "--help"], capture_output=True, text=True, check=True
    )
    for word in ("status", "send", "dead-letters", "exit codes"):
        assert word in shown.stdout
