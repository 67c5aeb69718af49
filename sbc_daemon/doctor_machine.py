"""What `sbcctl doctor` looks at on this machine: the producers' socket, the caller's groups, disk, proxy variables."""

import grp
import json
import os
import pwd
import socket
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from sbc_daemon.config import Hub
from sbc_daemon.doctor_finding import Finding
from telemetry_common.text import size

ANSWER_SECONDS = 5.0
LEAST_FREE_BYTES = 8 << 20
"""Below it the outbox's own log may find no room."""
_START = "systemctl enable --now sbc-daemon.socket sbc-daemon.service"
_LOOK = "systemctl status sbc-daemon; journalctl -u sbc-daemon"
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


def producers_socket(path: str) -> Iterator[Finding]:
    """That it is there, who may open it, whether the caller may, and whether a daemon answers on it."""
    try:
        found = Path(path).stat()
    except OSError as error:
        yield Finding("fail", "socket", f"cannot look at {path}: {error.strerror}", _START)
        return
    if not stat.S_ISSOCK(found.st_mode):
        yield Finding("fail", "socket", f"{path} is no socket", "remove it, then systemctl restart sbc-daemon.socket")
        return
    yield _openness(path, found)
    yield membership(found)
    yield _hello(path)


def _openness(path: str, found: os.stat_result) -> Finding:
    mode, group = stat.S_IMODE(found.st_mode), group_name(found.st_gid)
    words = f"{path} is there, mode {mode:04o}, group {group}"
    if mode & 0o002:
        return Finding("warning", "socket", f"{words}: everybody may report", "see SocketMode= of sbc-daemon.socket")
    if not mode & 0o020:
        return Finding(
            "warning", "socket", f"{words}: the group may not report", "see SocketMode= of sbc-daemon.socket"
        )
    return Finding("ok", "socket", words)


def membership(found: os.stat_result) -> Finding:
    uid, group = os.geteuid(), group_name(found.st_gid)
    user = user_name(uid)
    if uid in (0, found.st_uid) or found.st_mode & 0o002:
        return Finding("ok", "group", f"{user} may report without being in group {group}")
    if found.st_gid in {os.getegid(), *os.getgroups()}:
        return Finding("ok", "group", f"{user} is in group {group}")
    if user in _members(found.st_gid):
        return Finding("warning", "group", f"{user} has been put into group {group} since this login", "log in again")
    return Finding("warning", "group", f"{user} is not in group {group} and cannot report", f"adduser {user} {group}")


def _hello(path: str) -> Finding:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ANSWER_SECONDS)
        try:
            connection.connect(path)
            connection.sendall(b'{"hello":1}\n')
            with connection.makefile("rb") as answers:
                said = json.loads(answers.readline(4096))
            return Finding("ok", "hello", f"sbc-daemon {said['hello']['version']} answers producers")
        except TimeoutError:
            words = f"somebody listens, and no daemon answers within {ANSWER_SECONDS:g} s"
            return Finding("fail", "hello", words, _LOOK)
        except PermissionError:
            words = f"{user_name(os.geteuid())} may not open {path}"
            return Finding("fail", "hello", words, "be root, or join the socket's group and log in again")
        except ConnectionRefusedError:
            return Finding("fail", "hello", f"nobody listens on {path}", _START)
        except (OSError, ValueError, KeyError, TypeError) as error:
            return Finding("fail", "hello", f"no daemon's answer on {path}: {error or type(error).__name__}", _LOOK)


def disk(directory: str, wanted_bytes: int) -> Finding:
    """Whether there is room for what the outbox may still take: `wanted_bytes`."""
    try:
        room = os.statvfs(directory)
    except FileNotFoundError:
        words = f"{directory} (outbox.directory) is missing"
        return Finding("warning", "disk", words, "systemd makes it with the service (StateDirectory=)")
    except OSError as error:
        return Finding("unknown", "disk", f"cannot look at {directory}: {error.strerror}", "ask as root")
    free = room.f_bavail * room.f_frsize
    words = f"{size(free)} free for {directory}"
    if free < LEAST_FREE_BYTES:
        return Finding("fail", "disk", words, "make room: new messages are kept in memory only")
    if room.f_files and not room.f_favail:
        return Finding("fail", "disk", f"no inode free for {directory}", "remove files there")
    if free < wanted_bytes:
        cure = "make room, or lower outbox.max_bytes"
        return Finding("warning", "disk", f"{words}, and the outbox may take {size(wanted_bytes)} more", cure)
    return Finding("ok", "disk", words)


def proxies(hub: Hub, environ: Mapping[str, str], *, reached: bool) -> Finding:
    """Of this environment only: what the daemon was started with is not to be seen, and counts for as little."""
    found = sorted({name for name in _PROXIES if environ.get(name)})
    if hub.proxy_url:
        return Finding("ok", "proxy", f"hub.proxy_url: {hub.proxy_url}, but for a hub on loopback")
    if not found:
        return Finding("ok", "proxy", "none is configured")
    words = f"{', '.join(found)} set here, and ignored by the daemon"
    return Finding("ok", "proxy", words) if reached else Finding("warning", "proxy", words, "is hub.proxy_url needed?")


def configuration(path: Path, sources: Sequence[Path]) -> Finding:
    if not path.exists():
        return Finding("ok", "config", f"there is no {path}: the defaults, and {len(sources)} drop-ins")
    return Finding("ok", "config", f"{path} and {len(sources)} drop-ins can be used")


def user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return f"gid {gid}"


def _members(gid: int) -> Sequence[str]:
    try:
        return grp.getgrgid(gid).gr_mem
    except KeyError:
        return ()
