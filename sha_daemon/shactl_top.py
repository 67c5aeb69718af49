"""shactl top: the running jobs, live. This file asks and waits; `top_view` says how it looks."""

import argparse
import contextlib
import shutil
import sys
import time
from typing import Any

from msgspec import structs

from sha_daemon.config import HubSettings
from sha_daemon.hub_client import HubClient, HubUnreachable, ShownJob, decoded
from sha_daemon.shactl_answers import OK, answered
from sha_daemon.shactl_hub import asked_hub
from sha_daemon.terminal import full_screen
from sha_daemon.top_view import ENDED_SHOWN, View, frame

MAX_JOBS = 500
"""Running jobs asked for at each look, the newest."""


def add_commands(groups: "argparse._SubParsersAction[Any]") -> None:
    top = groups.add_parser(
        "top",
        help="the running jobs, live",
        description="The running jobs, live: those that somebody should look at first, those that ended meanwhile "
        "last. q leaves. Where the output is no terminal, one look is printed.",
    )
    top.add_argument(
        "--interval", type=_seconds, default=2.0, metavar="S", help="seconds between two looks (default: %(default)g)"
    )
    top.add_argument("--once", action="store_true", help="print one look and leave")
    top.set_defaults(command=answered(_top))


def _top(settings: HubSettings, chosen: argparse.Namespace) -> int:
    hub = asked_hub(settings, chosen)
    view = look(hub, settings.listen.address, ())
    if chosen.once or not (sys.stdin.isatty() and sys.stdout.isatty()):
        print("\n".join(frame(view, *_size_of_output())))
        return OK
    with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C is a way to leave
        _follow(hub, view, chosen.interval)
    return OK


def _size_of_output() -> tuple[int, int]:
    """A file takes everything."""
    if not sys.stdout.isatty():
        return 10_000, MAX_JOBS + 100
    size = shutil.get_terminal_size()
    return size.columns, size.lines


def _follow(hub: HubClient, view: View, interval: float) -> None:
    looked = time.monotonic()
    with full_screen() as screen:
        while True:
            screen.paint(frame(view, *screen.size()))
            if screen.key(interval) in ("q", "Q"):
                return
            try:
                view, looked = look(hub, view.hub, view.running, view.ended), time.monotonic()
            except HubUnreachable as error:
                view = structs.replace(view, problem=str(error), age_seconds=time.monotonic() - looked)


def look(hub: HubClient, address: str, before: tuple[ShownJob, ...], ended: tuple[ShownJob, ...] = ()) -> View:
    """What the hub says now; jobs that ran at the look before and do no more have ended. Raises HubUnreachable."""
    health = hub.health()
    running = tuple(decoded(job, ShownJob) for job in hub.jobs(["running"], MAX_JOBS))
    ids = {job.job_id for job in running}
    gone = {job.job_id for job in before} - ids
    news = [decoded(found, ShownJob) for job_id in sorted(gone)[:ENDED_SHOWN] if (found := hub.job(job_id))]
    all_ended = tuple(job for job in (*news, *ended) if job.status != "running" and job.job_id not in ids)
    return View(
        hub=address,
        clock=time.strftime("%H:%M:%S"),
        health=health,
        running=running,
        ended=_each_once(all_ended)[:ENDED_SHOWN],
    )


def _each_once(jobs: tuple[ShownJob, ...]) -> tuple[ShownJob, ...]:
    return tuple({job.job_id: job for job in reversed(jobs)}.values())[::-1]


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.2 <= seconds <= 3600:
        raise argparse.ArgumentTypeError("0.2 to 3600 seconds are expected")
    return seconds
