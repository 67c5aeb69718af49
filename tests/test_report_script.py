"""`sbc-report start|phase|progress|fail|done` as a shell script uses them."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sbc_daemon.report.command import main
from tests.support.producers_socket import ProducersSocket, producers_socket


@pytest.fixture
def sidecar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ProducersSocket]:
    with producers_socket(tmp_path / "socket") as listening:
        monkeypatch.setenv("SBC_SOCKET", str(listening.path))
        monkeypatch.setenv("SBC_JOB_ID", "j1")
        yield listening


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("start --no-attach --total-bytes 9 --phase snapshot", '{"total_bytes":9,"current_phase":"snapshot"}'),
        ("phase finalizing", '{"current_phase":"finalizing"}'),
        ("progress 7", '{"bytes_transferred":7}'),
        ("progress 7 --total-bytes 9 --disk 1", '{"disks":[{"disk_index":1,"bytes_transferred":7,"total_bytes":9}]}'),
        ("progress --percent 12.5", '{"progress_percent":12.5}'),
        ("fail broken --code E1", '{"status":"failed","error":{"message":"broken","code":"E1"}}'),
        ("done --bytes 9", '{"status":"completed","bytes_transferred":9}'),
    ],
)
def test_each_subcommand_is_one_line(sidecar: ProducersSocket, words: str, line: str) -> None:
    assert main(words.split()) == 0
    said = sidecar.wait_for(lambda lines: lines)
    assert len(said) == 1
    assert json.loads(line).items() <= said[0].items()
    assert said[0]["job_id"] == "j1"


@pytest.mark.parametrize(
    ("words", "confirmed"),
    [("start", True), ("done", True), ("fail x", True), ("progress 1", False), ("phase x", False)],
)
def test_the_beginning_and_the_end_wait_for_the_sidecars_word(
    sidecar: ProducersSocket, words: str, confirmed: bool
) -> None:
    main(words.split())
    assert ("ack" in sidecar.wait_for(lambda lines: lines)[0]) is confirmed


def test_start_attaches_the_calling_shell(sidecar: ProducersSocket) -> None:
    command = f"{sys.executable} -m sbc_daemon.report.command start; read line"
    with subprocess.Popen(["sh", "-c", command], stdin=subprocess.PIPE) as shell:
        assert sidecar.wait_for(lambda lines: lines)[0]["attach"] is True
        assert pid_of(sidecar.fds[0]) == shell.pid
        shell.send_signal(signal.SIGKILL)
        shell.wait()
    assert pid_of(sidecar.fds[0]) == -1


def pid_of(pidfd: int) -> int:
    text = Path(f"/proc/self/fdinfo/{pidfd}").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("Pid:")))


def test_start_attaches_another_process_on_request(sidecar: ProducersSocket) -> None:
    main(["start", "--pid", str(os.getpid())])
    sidecar.wait_for(lambda lines: lines)
    assert pid_of(sidecar.fds[0]) == os.getpid()


def test_a_process_that_is_gone_is_told_and_the_job_starts_all_the_same(
    sidecar: ProducersSocket, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["start", "--pid", "4194304"]) == 0
    assert "attach" not in sidecar.wait_for(lambda lines: lines)[0]
    assert "cannot attach to process 4194304" in capsys.readouterr().err


@pytest.mark.parametrize("words", ["start", "phase x", "progress 1", "fail x", "done"])
def test_without_a_sidecar_a_script_goes_on_and_is_told_once(
    words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words.split(), "--job", "j1", "--socket", str(tmp_path / "none")]) == 0
    assert capsys.readouterr().err.count("cannot report to") == 1


def test_a_sidecar_that_never_answers_costs_a_script_a_bounded_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "stopped"))
        listener.listen(8)
        before = time.monotonic()
        assert main(["done", "--job", "j1", "--socket", str(tmp_path / "stopped")]) == 0
    assert 1.5 < time.monotonic() - before < 6
    assert "no answer in time" in capsys.readouterr().err


def test_a_refusal_is_shown_and_does_not_fail_the_script(
    sidecar: ProducersSocket, capsys: pytest.CaptureFixture[str]
) -> None:
    sidecar.answers = lambda _: {"ok": False, "error": "it has ended\nas completed"}
    assert main(["done"]) == 0
    assert "the sidecar refused it: it has ended\\nas completed" in capsys.readouterr().err


def test_an_end_whose_answer_got_lost_is_fine_when_it_is_said_again(
    sidecar: ProducersSocket, capsys: pytest.CaptureFixture[str]
) -> None:
    def answer(_: object) -> dict[str, object]:
        if len(sidecar.lines) == 1:
            sidecar.hang_up()
        return {"ok": False, "error": "it has ended as completed", "ended": "completed"}

    sidecar.answers = answer
    assert main(["done"]) == 0
    assert len(sidecar.lines) == 2
    assert capsys.readouterr().err == ""


def test_an_end_waits_for_a_sidecar_that_is_just_being_restarted(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sbc_daemon.report.command", "done", "--job", "j1"]
    with subprocess.Popen([*command, "--socket", str(tmp_path / "late")], stderr=subprocess.PIPE) as reporting:
        time.sleep(0.3)
        with producers_socket(tmp_path / "late") as sidecar:
            assert sidecar.wait_for(lambda lines: lines)[0]["status"] == "completed"
            assert reporting.communicate()[1] == b""


@pytest.mark.parametrize("job", [None, "x" * 65])
def test_without_a_usable_job_nothing_is_sent_and_nothing_fails(
    sidecar: ProducersSocket, job: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SBC_JOB_ID")
    assert main(["done", *(["--job", job] if job else [])]) == 0
    assert "cannot report" in capsys.readouterr().err
    assert sidecar.lines == []


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["begin"],
        ["progress", "-1"],
        ["progress", "1.5"],
        ["progress", str(2**63)],
        ["progress", "--percent", "nan"],
        ["run"],
    ],
)
def test_a_wrong_command_line_exits_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert capsys.readouterr().err


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["start", "--help"], ["fail", "--help"]])
def test_help_is_there_for_everything(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 0
    assert "usage: sbc-report" in capsys.readouterr().out
