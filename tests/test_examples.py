"""The programs in the documentation are run as they stand there, against a real sidecar; what arrives is looked at."""

import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from testbed.installation import sidecar_settings
from tests.support.stage import RealSidecar, eventually

pytestmark = pytest.mark.integration
DOCS = Path(__file__).resolve().parent.parent / "docs"
BIN = Path(sys.executable).parent
SOCKET, JOB = "/run/sbc-daemon/progress.sock", "backup-vm1-1"
NOT_RUN = {"Go"}


def programs(page: str) -> dict[str, tuple[str, str]]:
    """By the heading above it: the language and the text of each block of code."""
    found = re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", (DOCS / page).read_text("utf-8"), re.M | re.S)
    blocks = ((heading, re.search(r"```(\w+)\n(.*?)```", text, re.S)) for heading, text in found)
    return {heading: (block[1], block[2]) for heading, block in blocks if block}


EXAMPLES = programs("examples.md")
WAYS = programs("reporting.md")


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealSidecar]:
    """Its hub is away, which no producer notices."""
    directory = tmp_path_factory.mktemp("sidecar")
    with RealSidecar(directory, sidecar_settings(directory, "http://127.0.0.1:9")) as running:
        yield running


def job(sidecar: RealSidecar, job_id: str) -> dict[str, Any] | None:
    """What the operator is shown of it."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(sidecar.socket.replace("progress.sock", "control.sock"))
        connection.sendall(b"GET /status HTTP/1.0\r\n\r\n")
        shown = json.loads(connection.makefile().read().partition("\n\n")[2])
    return next((one for one in shown["jobs"] if one["job_id"] == job_id), None)


def ended(sidecar: RealSidecar, job_id: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        found = job(sidecar, job_id)
        return found if found is not None and found["status"] != "running" else None

    return eventually(look)


def command(language: str, text: str, directory: Path) -> list[str]:
    if language == "c":
        (directory / "example.c").write_text(text)
        program = str(directory / "example")
        subprocess.run(["tcc", "-Wall", "-Werror", "-o", program, str(directory / "example.c")], check=True)
        return [program]
    return {"sh": ["bash", "-c", text], "python": [sys.executable, "-c", text], "perl": ["perl", "-we", text]}[language]


def test_every_example_is_run_but_the_one_that_says_so() -> None:
    assert {"nc", "socat", "bash", "Python", "Perl", "C", "Go"} == EXAMPLES.keys()
    page = (DOCS / "examples.md").read_text("utf-8")
    assert all(f"## {name}\n\nNot run by the tests." in page for name in NOT_RUN)


@pytest.mark.parametrize("name", sorted(EXAMPLES.keys() - NOT_RUN))
def test_an_example_is_a_whole_producer(sidecar: RealSidecar, name: str, tmp_path: Path) -> None:
    language, text = EXAMPLES[name]
    job_id = f"example-{name}"
    text = text.replace(SOCKET, sidecar.socket).replace(JOB, job_id)
    run = subprocess.run(command(language, text, tmp_path), capture_output=True, check=True, timeout=20)
    assert (run.stdout, run.stderr) == (b'{"ack":1,"ok":true}\n', b"")
    shown = ended(sidecar, job_id)
    assert (shown["status"], shown["bytes_transferred"], shown["total_bytes"]) == ("completed", 1000, 1000)
    assert shown["current_phase"] == "transferring"


@pytest.mark.parametrize("name", ["C", "Perl"])
def test_an_example_without_a_sidecar_goes_on(name: str, tmp_path: Path) -> None:
    language, text = EXAMPLES[name]
    text = text.replace(SOCKET, str(tmp_path / "none"))
    run = subprocess.run(command(language, text, tmp_path), capture_output=True, check=False, timeout=20)
    assert (run.stdout, run.stderr, run.returncode) == (b"", b"", 0)


def test_the_shell_script_of_the_manual_reports_a_real_tar(sidecar: RealSidecar, tmp_path: Path) -> None:
    (tmp_path / "srv").mkdir()
    (tmp_path / "srv" / "file").write_bytes(bytes(5000))
    (tmp_path / "backup").mkdir()
    language, text = WAYS["In a shell script: three lines"]
    text = text.replace("-C /srv", f"-C {tmp_path}/srv").replace("/backup/", f"{tmp_path}/backup/")
    text = text.replace('backup-vm1-$(date +%s)"', 'example-tar"')
    environment = {"PATH": f"{BIN}:/usr/bin:/bin", "SBC_SOCKET": sidecar.socket}
    subprocess.run(command(language, text, tmp_path), check=True, env=environment, timeout=20)
    shown = ended(sidecar, "example-tar")
    archive = next(tmp_path.rglob("*.tar"))
    assert (shown["status"], shown["bytes_transferred"]) == ("completed", archive.stat().st_size)


def test_the_word_in_front_of_the_manual_reports_a_real_copy(sidecar: RealSidecar, tmp_path: Path) -> None:
    language, text = WAYS["Around a tool: one word in front"]
    source = tmp_path / "vm1.raw"
    source.write_bytes(bytes(1 << 20))
    text = text.replace("nbd+unix:///?socket=/run/vm1.sock", str(source)).replace("/backup/vm1.img", f"{tmp_path}/copy")
    environment = {"PATH": f"{BIN}:/usr/bin:/bin", "SBC_SOCKET": sidecar.socket}
    subprocess.run(command(language, text, tmp_path), check=True, env=environment, timeout=20)
    shown = ended(sidecar, JOB)
    assert (shown["status"], shown["bytes_transferred"], shown["total_bytes"]) == ("completed", 1 << 20, 1 << 20)


def test_the_python_of_the_manual_reports(sidecar: RealSidecar, tmp_path: Path) -> None:
    language, text = WAYS["From Python"]
    text = "size, copy = 1000, lambda: [400, 1000]\n" + text.replace(JOB, "example-library")
    environment = {"SBC_SOCKET": sidecar.socket}
    subprocess.run(command(language, text, tmp_path), check=True, env=environment, timeout=20)
    shown = ended(sidecar, "example-library")
    assert (shown["status"], shown["bytes_transferred"], shown["total_bytes"]) == ("completed", 1000, 1000)


def test_the_one_line_of_the_manual_is_a_report(sidecar: RealSidecar, tmp_path: Path) -> None:
    language, text = WAYS["From anything else"]
    text = text.replace(SOCKET, sidecar.socket)
    subprocess.run(command(language, text, tmp_path), check=True, timeout=20)
    assert eventually(lambda: job(sidecar, "j1"))["bytes_transferred"] == 5
