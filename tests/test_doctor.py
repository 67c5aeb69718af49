"""`sbcctl doctor`: each finding says what is so, and what cannot be told is unknown."""

import asyncio
import grp
import json
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from msgspec import structs

from sbc_daemon import doctor_daemon, doctor_hub, doctor_machine
from sbc_daemon.config import Hub, SidecarSettings
from sbc_daemon.control import ControlServer
from sbc_daemon.doctor import diagnose
from sbc_daemon.doctor_finding import Finding, exit_code, told
from sbc_daemon.doctor_hub import Heard
from sbc_daemon.sbcctl import main
from sbc_daemon.status import HeldLane, HubState, JobState, OutboxState, Status
from telemetry_common import __version__
from tests.support.certificates import Pair, authority, dated, server
from tests.support.fixed_letters import FixedLetters

URL = "http://127.0.0.1:8082"
CALM = Status(
    version=__version__,
    pid=4711,
    started_at=1_760_000_000.0,
    hub=HubState(url=URL, first_url=URL, link="up", since_seconds=61.0, last_answer="204", last_answer_seconds=1.0),
    outbox=OutboxState(states=0, progress=1, samples=0, dead_letters=0, bytes_used=4096, max_bytes=1 << 20),
    counters={},
    jobs=(),
)
LANE = HeldLane(job_id="j", status=404, reason="404 no such job", since_seconds=9.0)
FINE = {"daemon": "ok", "link": "ok", "outbox": "ok"}


def levels(findings: list[Finding]) -> dict[str, str]:
    return {finding.check: finding.level for finding in findings}


def outbox(**changes: Any) -> Status:
    return structs.replace(CALM, outbox=structs.replace(CALM.outbox, **changes))


def hub(**changes: Any) -> Status:
    return structs.replace(CALM, hub=structs.replace(CALM.hub, **changes))


@pytest.mark.parametrize(
    ("status", "found"),
    [
        (CALM, {}),
        (structs.replace(CALM, version="0.0.1"), {"daemon": "warning"}),
        (hub(first_url="http://10.0.0.1", url=URL), {"daemon": "warning", "link": "warning"}),
        (hub(link="down", last_error="connection refused"), {"link": "fail"}),
        (hub(link="unknown"), {"link": "unknown"}),
        (outbox(bytes_used=900_000), {"outbox": "warning"}),
        (outbox(oldest_seconds=1000.0), {"outbox": "warning"}),
        (outbox(in_memory=1), {"outbox": "fail"}),
        (outbox(moved_aside=1), {"damage": "warning"}),
        (outbox(dead_letters=1), {"letters": "warning"}),
        (structs.replace(CALM, held=(LANE,)), {"held": "warning"}),
        (
            structs.replace(CALM, jobs=(JobState(job_id="j", status="running", hub_status="failed"),)),
            {"job": "warning"},
        ),
    ],
)
def test_what_the_daemon_says_of_itself_is_judged(status: Status, found: dict[str, str]) -> None:
    assert levels(list(doctor_daemon.daemon(status, SidecarSettings(), __version__))) == FINE | found


@pytest.mark.parametrize(
    ("heard", "level"),
    [
        (Heard(status=200, body=b'{"status":"ok","database":"ok"}'), "ok"),
        (Heard(status=503, body=b'{"status":"degraded","database":"unreachable since 12:00"}'), "warning"),
        (Heard(status=200, body=b"<html>It works!"), "fail"),
        (Heard(status=200, body=b"[1]"), "fail"),
        (Heard(status=503, body=b"no server is available"), "fail"),
        (Heard(status=421), "fail"),
        (Heard(status=404, body=b"<html>"), "fail"),
        (Heard(trouble="Connection refused"), "fail"),
    ],
)
def test_the_hubs_health_is_judged(heard: Heard, level: str) -> None:
    assert doctor_hub.health(URL, heard, first=True).level == level
    assert doctor_hub.health(URL, heard, first=False).level == level.replace("fail", "warning")


@pytest.mark.parametrize(
    ("skew", "level", "words"),
    [
        (None, "unknown", "no hub has said"),
        (4.9, "ok", "agrees"),
        (-4.9, "ok", "agrees"),
        (90.0, "warning", "1m30s ahead of"),
        (-3600.0, "warning", "1h0m0s behind"),
    ],
)
def test_clocks_are_compared(skew: float | None, level: str, words: str) -> None:
    finding = doctor_hub.clock(Heard(status=200, skew_seconds=skew))
    assert finding.level == level
    assert words in finding.words


@pytest.mark.parametrize(
    ("status", "shown", "seen", "level"),
    [
        (200, True, None, "ok"),
        (401, True, None, "fail"),
        (403, True, None, "fail"),
        (503, True, None, "unknown"),
        (0, True, None, "unknown"),
        (None, False, None, "unknown"),
        (200, False, None, "ok"),
        (401, False, None, "warning"),
        (401, False, True, "ok"),
        (200, True, False, "fail"),
        (None, False, False, "fail"),
        (None, False, True, "ok"),
    ],
)
def test_nobody_is_said_to_be_refused_who_may_be_let_in(
    status: int | None, shown: bool, seen: bool | None, level: str
) -> None:
    heard = None if status is None else Heard(status=status) if status else Heard(trouble="refused")
    assert doctor_hub.token(heard, shown=shown, seen=seen).level == level


@pytest.mark.parametrize(
    ("status", "seen"),
    [
        (None, None),
        (CALM, True),
        (hub(link="down"), None),
        (hub(last_answer="404 no such job"), None),
        (structs.replace(CALM, held=(structs.replace(LANE, status=401),)), False),
    ],
)
def test_what_the_daemon_has_learnt_of_its_token(status: Status | None, seen: bool | None) -> None:
    assert doctor_daemon.token_seen(status) is seen


def test_the_worst_finding_is_the_exit_code() -> None:
    findings = [Finding("ok", "a", "b"), Finding("unknown", "a", "b")]
    assert exit_code([]) == exit_code(findings) == 0
    assert exit_code([*findings, Finding("warning", "a", "b")]) == 1
    assert exit_code([Finding("fail", "a", "b"), Finding("warning", "a", "b")]) == 2


def test_each_finding_is_one_line_whatever_is_in_it() -> None:
    assert told([Finding("fail", "hub", "a\n\x1bb", "c")]) == "FAIL     hub      a\\n\\x1bb -> c"


def test_a_configuration_that_cannot_be_used_is_said_and_the_rest_is_unknown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.toml").write_text("[hub]\nurll = 1\n")
    assert main(["doctor", "--json", "--config", str(tmp_path / "config.toml")]) == 2
    said = json.loads(capsys.readouterr().out)
    assert said["exit_code"] == 2
    assert [finding["level"] for finding in said["findings"]] == ["fail", "unknown"]
    assert "did you mean url?" in said["findings"][0]["words"]


def test_a_machine_without_a_daemon_is_told_what_to_start(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(
        f'[socket]\npath = "{tmp_path}/p.sock"\ncontrol = "{tmp_path}/c.sock"\n[hub]\nurl = "http://127.0.0.1:9"\n'
        f'[outbox]\ndirectory = "{tmp_path}/none"\n'
    )
    found = levels(diagnose(config, {}))
    assert found == {
        "config": "ok",
        "socket": "fail",
        "daemon": "fail",
        "outbox": "unknown",
        "disk": "warning",
        "hub": "fail",
        "proxy": "ok",
        "clock": "unknown",
        "token": "unknown",
    }


def at_socket(path: Path, mode: int, *, listens: bool) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    path.chmod(mode)
    if listens:
        listener.listen()
    return listener


@pytest.mark.parametrize(("mode", "level"), [(0o660, "ok"), (0o666, "warning"), (0o600, "warning")])
def test_who_may_open_the_producers_socket_is_looked_at(tmp_path: Path, mode: int, level: str) -> None:
    with at_socket(tmp_path / "s", mode, listens=False):
        found = list(doctor_machine.producers_socket(str(tmp_path / "s")))
    assert levels(found) == {"socket": level, "group": "ok", "hello": "fail"}
    assert "nobody listens" in found[-1].words


@pytest.mark.parametrize(
    ("groups", "members", "level", "words"),
    [
        ([4711], [], "ok", "is in group sbc"),
        ([], ["nobody"], "warning", "nobody has been put into group sbc since this login"),
        ([], [], "warning", "nobody is not in group sbc and cannot report"),
    ],
)
def test_who_reports_must_be_in_the_sockets_group(
    groups: list[int], members: list[str], level: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    monkeypatch.setattr(os, "getegid", lambda: 65534)
    monkeypatch.setattr(os, "getgroups", lambda: groups)
    monkeypatch.setattr(grp, "getgrgid", lambda _gid: grp.struct_group(("sbc", "x", 4711, members)))
    socket_of_systemd = os.stat_result((0o140660, 1, 1, 1, 0, 4711, 0, 0, 0, 0))
    finding = doctor_machine.membership(socket_of_systemd)
    assert finding.level == level
    assert words in finding.words


def test_a_socket_behind_which_nobody_answers_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As systemd's is, whose daemon does not start."""
    monkeypatch.setattr(doctor_machine, "ANSWER_SECONDS", 0.05)
    with at_socket(tmp_path / "s", 0o660, listens=True):
        *_, hello = doctor_machine.producers_socket(str(tmp_path / "s"))
    assert (hello.level, hello.words) == ("fail", "somebody listens, and no daemon answers within 0.05 s")


def test_a_file_in_the_sockets_place_is_said(tmp_path: Path) -> None:
    (tmp_path / "s").touch()
    (finding,) = doctor_machine.producers_socket(str(tmp_path / "s"))
    assert (finding.level, finding.words) == ("fail", f"{tmp_path}/s is no socket")


def test_the_disk_is_measured_by_what_the_outbox_may_still_take(tmp_path: Path) -> None:
    assert doctor_machine.disk(str(tmp_path), 1 << 20).level == "ok"
    assert doctor_machine.disk(str(tmp_path), 1 << 60).level == "warning"


def test_proxy_variables_are_said_to_be_ignored_and_matter_only_without_a_hub() -> None:
    environ = {"https_proxy": "http://p"}
    assert doctor_machine.proxies(Hub(), environ, reached=True).level == "ok"
    assert doctor_machine.proxies(Hub(), environ, reached=False).level == "warning"
    assert "http://p:3128" in doctor_machine.proxies(Hub(proxy_url="http://p:3128"), {}, reached=True).words


Serve = Callable[..., Any]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """A hub's place on a loopback port, with TLS where a pair is given; its port."""
    runners: list[web.AppRunner] = []

    async def start(handler: Any, pair: Pair | None = None) -> int:
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", handler)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        runners.append(runner)
        tls = None
        if pair:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(pair.certificate, pair.key)
        listener = socket.create_server(("127.0.0.1", 0))
        await web.SockSite(runner, listener, ssl_context=tls).start()
        return int(listener.getsockname()[1])

    yield start
    for runner in runners:
        await runner.cleanup()


async def well(_request: web.Request) -> web.Response:
    return web.json_response({"status": "ok", "database": "ok"})


async def asked(tmp_path: Path, url: str, ca: Path | None = None) -> list[Finding]:
    config = tmp_path / "config.toml"
    trust = f'ca_file = "{ca}"\n' if ca else ""
    config.write_text(f'[socket]\npath = "{tmp_path}/p"\ncontrol = "{tmp_path}/c"\n[hub]\nurl = "{url}"\n{trust}')
    return await asyncio.to_thread(diagnose, config, {})


@pytest.mark.parametrize(("days", "level"), [(60, "ok"), (5, "warning")])
async def test_a_certificate_that_ends_soon_is_warned_of(tmp_path: Path, serve: Serve, days: int, level: str) -> None:
    ca = authority(tmp_path)
    port = await serve(well, dated(tmp_path, ca, "soon", days))
    found = await asked(tmp_path, f"https://127.0.0.1:{port}", ca.certificate)
    assert levels(found).items() >= {"hub": "ok", "tls": level, "clock": "ok", "token": "ok"}.items()


async def test_a_hub_that_is_not_trusted_is_no_hub(tmp_path: Path, serve: Serve) -> None:
    port = await serve(well, server(tmp_path, authority(tmp_path)))
    (tmp_path / "other").mkdir()
    found = await asked(tmp_path, f"https://127.0.0.1:{port}", authority(tmp_path / "other").certificate)
    hub_is = next(finding for finding in found if finding.check == "hub")
    assert hub_is.level == "fail"
    assert "certificate is not trusted" in hub_is.words


async def test_cas_that_cannot_be_used_are_said(tmp_path: Path) -> None:
    (tmp_path / "ca").write_text("no PEM")
    found = await asked(tmp_path, "https://127.0.0.1:9", tmp_path / "ca")
    assert levels(found).items() >= {"tls": "fail", "hub": "unknown"}.items()


async def test_plain_http_where_tls_is_expected_is_said(tmp_path: Path, serve: Serve) -> None:
    found = await asked(tmp_path, f"https://127.0.0.1:{await serve(well)}")
    assert "no TLS with the hub" in next(finding.words for finding in found if finding.check == "hub")


async def test_what_the_daemon_knows_is_part_of_it(tmp_path: Path, serve: Serve) -> None:
    url = f"http://127.0.0.1:{await serve(well)}"

    async def status() -> Status:
        return structs.replace(CALM, hub=structs.replace(CALM.hub, first_url=url, url=url), held=(LANE,))

    control = ControlServer(status, FixedLetters())
    await control.start(tmp_path / "c")
    found = await asked(tmp_path, url)
    await control.close()
    assert levels(found).items() >= (FINE | {"held": "warning", "hub": "ok"}).items()
