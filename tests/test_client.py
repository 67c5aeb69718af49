"""The Python library for producers, against a real Unix socket."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sbc_daemon.client import MAX_ERROR_CHARACTERS, Job
from sbc_daemon.client_talk import MAX_WAITING_STATES
from sbc_daemon.client_wire import lines, merged, socket_path, unsaid
from telemetry_common.contract import MAX_LINE_BYTES, decode_line
from tests.support.producers_socket import Line, ProducersSocket, producers_socket


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[ProducersSocket]:
    with producers_socket(tmp_path / "socket") as listening:
        yield listening


def job_on(sidecar: ProducersSocket, **options: object) -> Job:
    return Job("j1", path=str(sidecar.path), **options)  # type: ignore[arg-type]  # the options are each test's subject


def has(**wanted: object) -> Callable[[list[Line]], Line | None]:
    """A search for the first line that says all of this."""
    return lambda said: next((line for line in said if wanted.items() <= line.items()), None)


def test_it_imports_nothing_but_the_standard_library_and_its_own_two_parts() -> None:
    code = "import sys; old = set(sys.modules); import sbc_daemon.client; print(*(set(sys.modules) - old))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    foreign = {name for name in found if name.split(".")[0] not in sys.stdlib_module_names}
    assert foreign == {"sbc_daemon", "sbc_daemon.client", "sbc_daemon.client_talk", "sbc_daemon.client_wire"}


def test_a_job_is_announced_as_running_with_its_process_attached(sidecar: ProducersSocket) -> None:
    with job_on(sidecar, total_bytes=100, phase="snapshot"):
        first = sidecar.wait_for(lambda said: said)[0]
    assert first == {
        "job_id": "j1",
        "attach": True,
        "status": "running",
        "total_bytes": 100,
        "current_phase": "snapshot",
        "ack": 1,
    }


def test_leaving_the_block_reports_completed_with_the_last_figures(sidecar: ProducersSocket) -> None:
    with job_on(sidecar) as job:
        job.progress(77)
    assert sidecar.lines[-1]["status"] == "completed"
    assert sidecar.lines[-1]["bytes_transferred"] == 77


def test_an_exception_in_the_block_reports_failed_with_its_text_and_goes_on(sidecar: ProducersSocket) -> None:
    with pytest.raises(OSError, match="disk on fire"), job_on(sidecar):
        raise OSError("disk on fire")
    assert sidecar.lines[-1]["status"] == "failed"
    assert sidecar.lines[-1]["error"] == {"message": "disk on fire", "code": "OSError"}


@pytest.mark.parametrize(("code", "status"), [(None, "completed"), (0, "completed"), (3, "failed"), ("no", "failed")])
def test_an_exit_in_the_block_is_judged_by_its_code(sidecar: ProducersSocket, code: object, status: str) -> None:
    with pytest.raises(SystemExit), job_on(sidecar):
        raise SystemExit(code)
    assert sidecar.lines[-1]["status"] == status


def test_phases_arrive_in_order_and_at_once(sidecar: ProducersSocket) -> None:
    with job_on(sidecar) as job:
        for phase in ("snapshot", "transferring", "finalizing"):
            job.phase(phase)
        sidecar.wait_for(has(current_phase="finalizing"))
        assert sidecar.values("current_phase") == ["snapshot", "transferring", "finalizing"]


def test_of_many_figures_only_the_newest_is_sent(sidecar: ProducersSocket) -> None:
    with job_on(sidecar) as job:
        for done in range(100_000):
            job.progress(done, disk=1)
        sidecar.wait_for(
            lambda said: any(line.get("disks") == [{"disk_index": 1, "bytes_transferred": 99_999}] for line in said)
        )
    assert len(sidecar.lines) < 20


def test_a_process_that_answers_for_one_disk_ends_that_disk_only(sidecar: ProducersSocket) -> None:
    with job_on(sidecar, attach_disks=([1], 2), disks={1: 50}) as job:
        job.progress(50, disk=1)
    assert sidecar.lines[0]["attach"] == {"disks": [1], "of": 2}
    assert sidecar.lines[0]["disks"] == [{"disk_index": 1, "status": "transferring", "total_bytes": 50}]
    assert sidecar.lines[-1]["disks"] == [{"disk_index": 1, "bytes_transferred": 50, "status": "completed"}]
    assert "completed" not in sidecar.values("status")


def test_a_failed_disk_carries_its_reason(sidecar: ProducersSocket) -> None:
    assert job_on(sidecar, attach_disks=([0], 2)).fail("no space", code=28)
    assert sidecar.lines[-1]["disks"] == [{"disk_index": 0, "status": "failed"}]
    assert sidecar.lines[-1]["error"] == {"message": "no space", "code": 28}


def test_every_line_it_sends_is_one_the_contract_takes(sidecar: ProducersSocket) -> None:
    job = job_on(sidecar, attach_disks=([0, 1], 3), disks={0: 9}, total_bytes=2**63 - 1)
    job.progress(5)
    job.percent(12.345, disk=0)
    job.total(10, disk=1)
    job.disk(1, "completed")
    job.fail("ends \ud800 \x00 badly" * 10_000, code="x")
    for line in sidecar.lines:
        for encoded in lines({**line, "disks": {d.pop("disk_index"): d for d in line.get("disks", [])}}):
            assert decode_line(encoded).job_id == "j1"


def test_after_a_reconnect_everything_is_said_again(sidecar: ProducersSocket) -> None:
    with job_on(sidecar, total_bytes=100) as job:
        job.phase("transferring")
        job.progress(40)
        sidecar.wait_for(has(bytes_transferred=40))
        sidecar.wait_for(has(current_phase="transferring"))
        sidecar.lines.clear()
        sidecar.hang_up()
        again = sidecar.wait_for(has(attach=True))
        assert (again["total_bytes"], again["status"]) == (100, "running")
        sidecar.wait_for(has(current_phase="transferring"))
        sidecar.wait_for(has(bytes_transferred=40))


def test_a_state_change_that_was_never_confirmed_is_said_again(sidecar: ProducersSocket) -> None:
    job = job_on(sidecar)
    sidecar.wait_for(has(status="running"))
    sidecar.answers = lambda _: {"ack": 0}
    job.phase("snapshot")
    sidecar.wait_for(has(current_phase="snapshot"))
    sidecar.answers = lambda _: {"ok": True}
    sidecar.hang_up()
    sidecar.wait_for(lambda said: sum(line.get("current_phase") == "snapshot" for line in said) == 2)
    assert job.done()


def test_a_repeated_phase_is_not_taken_back_by_the_one_before(sidecar: ProducersSocket) -> None:
    """The sidecar may have heard it, and only its answer was lost."""
    job = job_on(sidecar, total_bytes=100)
    job.phase("transferring")
    sidecar.wait_for(has(current_phase="transferring"))
    sidecar.answers = lambda _: {"ack": 0}
    job.phase("verifying")
    sidecar.wait_for(has(current_phase="verifying"))
    sidecar.lines.clear()
    sidecar.answers = lambda _: {"ok": True}
    sidecar.hang_up()
    sidecar.wait_for(has(current_phase="verifying"))
    assert job.done()
    assert has(total_bytes=100)(sidecar.lines)
    assert not has(current_phase="transferring")(sidecar.lines)


def test_what_was_said_while_the_sidecar_was_absent_arrives_in_order(tmp_path: Path) -> None:
    job = Job("j1", path=str(tmp_path / "late"))
    for phase in ("snapshot", "transferring"):
        job.phase(phase)
    job.progress(9)
    with producers_socket(tmp_path / "late") as sidecar:
        sidecar.wait_for(has(current_phase="transferring"))
        assert sidecar.values("current_phase") == ["snapshot", "transferring"]
        assert job.done()


def test_done_says_whether_the_sidecar_has_it_safe(sidecar: ProducersSocket, tmp_path: Path) -> None:
    assert job_on(sidecar).done() is True
    sidecar.answers = lambda _: {"ok": False, "error": "cannot keep it: the disk is full"}
    refused = job_on(sidecar)
    assert refused.done() is False
    assert refused.refused == "cannot keep it: the disk is full"
    assert Job("j1", path=str(tmp_path / "nobody")).done(timeout=0.2) is False


@pytest.mark.parametrize(("ended", "confirmed"), [("completed", True), ("failed", False)])
def test_an_end_whose_answer_got_lost_is_confirmed_when_the_job_is_said_to_have_ended_so(
    sidecar: ProducersSocket, ended: str, confirmed: bool
) -> None:
    job = job_on(sidecar)
    sidecar.wait_for(has(status="running"))

    def answer(_: Line) -> Line:
        if sum(line.get("status") == "completed" for line in sidecar.lines) == 1:
            sidecar.hang_up()
        return {"ok": False, "error": f"it has ended as {ended}", "ended": ended}

    sidecar.answers = answer
    assert job.done() is confirmed
    assert (job.refused is None) is confirmed


def test_a_new_run_under_an_old_id_is_not_taken_for_the_old_ones_end(sidecar: ProducersSocket) -> None:
    sidecar.answers = lambda _: {"ok": False, "error": "it has ended", "ended": "completed"}
    assert not job_on(sidecar).done()


def test_nothing_is_sent_after_the_end(sidecar: ProducersSocket) -> None:
    job = job_on(sidecar)
    job.done()
    job.progress(5)
    job.phase("late")
    assert job.fail("late") is True
    assert sidecar.lines[-1]["status"] == "completed"


def test_while_the_sidecar_is_stopped_no_call_waits_and_afterwards_the_newest_arrives(tmp_path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "full"))
    listener.listen(0)
    job = Job("j1", path=str(tmp_path / "full"), disks=dict.fromkeys(range(2000), 1))
    slowest = 0.0
    for step in range(300):
        before = time.perf_counter()
        job.phase(f"phase {step} " + "x" * 38)
        job.progress(step, disk=step)
        slowest = max(slowest, time.perf_counter() - before)
    assert slowest < 0.25
    connection, _ = listener.accept()
    received = b""
    while b'"current_phase":"phase 299' not in received:
        received += connection.recv(1 << 20)
    listener.close()
    connection.close()
    job.close(timeout=0)


def test_a_real_process_that_is_stopped_and_continued_gets_the_end(tmp_path: Path) -> None:
    path = tmp_path / "process"
    command = [sys.executable, "-m", "tests.support.producers_socket", str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGSTOP)
        job = Job("j1", path=str(path))
        job.progress(1)
        threading.Timer(0.2, process.send_signal, [signal.SIGCONT]).start()
        assert job.done(timeout=10)
        process.kill()


def test_the_states_waiting_for_a_sidecar_are_bounded_and_the_last_survives(tmp_path: Path) -> None:
    job = Job("j1", path=str(tmp_path / "late"), total_bytes=5)
    for step in range(3 * MAX_WAITING_STATES):
        job.phase(f"phase {step}")
    while job._talk._inbox:
        time.sleep(0.001)
    with producers_socket(tmp_path / "late") as sidecar:
        sidecar.wait_for(has(current_phase=f"phase {3 * MAX_WAITING_STATES - 1}"))
        assert len(sidecar.lines) <= MAX_WAITING_STATES
        assert sidecar.lines[0]["total_bytes"] == 5
        assert job.done()


def test_a_forked_child_is_silent_and_the_parent_goes_on(sidecar: ProducersSocket) -> None:
    job = job_on(sidecar)
    sidecar.wait_for(has(status="running"))
    code = os.fork()
    if code == 0:
        job.phase("child")
        job.done()
        os._exit(0)
    os.waitpid(code, 0)
    job.phase("parent")
    assert job.done()
    assert sidecar.values("current_phase") == ["parent"]
    assert sidecar.connections == 1


def test_very_many_disks_are_split_into_lines_of_legal_size() -> None:
    longest = {"bytes_transferred": 2**63 - 1, "total_bytes": 2**63 - 1, "status": "transferring"}
    encoded = lines({"job_id": "j" * 64, "ack": 1, "disks": dict.fromkeys(range(60000, 61000), longest)})
    assert sum(len(decode_line(line).disks or ()) for line in encoded) == 1000
    assert max(map(len, encoded)) <= MAX_LINE_BYTES
    assert [b'"ack"' in line for line in encoded] == [*[False] * (len(encoded) - 1), True]


def test_merging_keeps_what_the_newer_does_not_mention() -> None:
    older: Line = {"status": "running", "disks": {0: {"status": "pending", "total_bytes": 4}}}
    newer: Line = {"current_phase": "x", "disks": {0: {"status": "transferring"}, 1: {"total_bytes": 2}}}
    assert merged(older, newer) == {
        "status": "running",
        "current_phase": "x",
        "disks": {0: {"status": "transferring", "total_bytes": 4}, 1: {"total_bytes": 2}},
    }
    assert older["disks"][0]["status"] == "pending"


def test_what_a_later_change_says_anew_is_not_said_before_it() -> None:
    known: Line = {
        "status": "running",
        "current_phase": "x",
        "disks": {0: {"status": "transferring", "total_bytes": 4}},
    }
    later: Line = {"current_phase": "y", "disks": {0: {"status": "completed"}, 1: {"status": "pending"}}}
    assert unsaid(known, later) == {"status": "running", "disks": {0: {"total_bytes": 4}}}
    assert unsaid(known, {"status": "failed", "disks": {0: {"status": "failed", "total_bytes": 4}}}) == {
        "current_phase": "x"
    }


@pytest.mark.parametrize(
    ("wrong", "call"),
    [
        (TypeError, lambda job: job.progress(1.5)),
        (TypeError, lambda job: job.progress("1")),
        (ValueError, lambda job: job.progress(-1)),
        (ValueError, lambda job: job.progress(2**63)),
        (ValueError, lambda job: job.progress(1, disk=70_000)),
        (TypeError, lambda job: job.phase(None)),
        (ValueError, lambda job: job.phase("x" * 51)),
        (ValueError, lambda job: job.percent(float("nan"))),
        (ValueError, lambda job: job.disk(0, "cancelled")),
    ],
)
def test_wrong_arguments_are_the_only_thing_that_raises(
    sidecar: ProducersSocket, wrong: type[Exception], call: object
) -> None:
    job = job_on(sidecar)
    with pytest.raises(wrong):
        call(job)  # type: ignore[operator]  # the table holds lambdas over wrong types on purpose
    job.close()


@pytest.mark.parametrize("job_id", ["", "x" * 65])
def test_a_job_id_that_no_hub_can_hold_is_refused(job_id: str) -> None:
    with pytest.raises(ValueError, match="job_id"):
        Job(job_id)


def test_the_end_of_very_many_disks_fits_its_lines_also_with_a_long_error() -> None:
    """`\x1b` takes six bytes, and each may be part of what a tool printed."""
    disks = {number: {"status": "failed", "bytes_transferred": 2**62} for number in range(60000, 60400)}
    error = {"message": "\x1b" * MAX_ERROR_CHARACTERS}
    encoded = lines({"job_id": "j1", "disks": disks, "error": error, "ack": 3})
    assert max(map(len, encoded)) <= MAX_LINE_BYTES
    said = [decode_line(line) for line in encoded]
    assert sum(len(line.disks or ()) for line in said) == 400
    assert [bool(line.error) for line in said] == [*[False] * (len(said) - 1), True]
    assert said[-1].ack == 3


def test_the_socket_is_the_given_one_else_the_environments_else_the_usual(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SBC_SOCKET", raising=False)
    assert socket_path() == "/run/sbc-daemon/progress.sock"
    monkeypatch.setenv("SBC_SOCKET", "/tmp/env")
    assert socket_path() == "/tmp/env"
    assert socket_path("/tmp/given") == "/tmp/given"


def test_no_thread_is_left_after_the_end(sidecar: ProducersSocket) -> None:
    Job("ended", path=str(sidecar.path)).done()
    threads = [thread for thread in threading.enumerate() if thread.name == "sbc-report ended"]
    for thread in threads:
        thread.join(5)
    assert not any(thread.is_alive() for thread in threads)
