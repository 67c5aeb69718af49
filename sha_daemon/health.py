"""How the hub is: whether its database is there, migrated and writable, and a line a person wants to read about it."""

import asyncio
import datetime
import logging
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from sha_daemon.database import Database, DatabaseError, DatabaseMissing, SchemaMissing, Session
from telemetry_common import __version__
from telemetry_common.clock import Clock
from telemetry_common.lifecycle import Pulse
from telemetry_common.logs import fields
from telemetry_common.text import counted

log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
"""Between two looks at the database: what was missing is noticed as present within this."""
DATABASE_STATES = ("ok", "unreachable", "missing", "not migrated", "taking no updates", "not durable")
NOT_DURABLE = "innodb_flush_log_at_trx_commit is not 1: what was acknowledged may not survive a power cut"


class Figures(Struct, frozen=True):
    """What the parts report for the status line; counters since the start. `trouble` is the writer's, if any."""

    committed: int
    queued: int
    silent: int
    never_heard: int
    trouble: str


class Health:
    def __init__(self, database: Database, clock: Clock, figures: Callable[[], Figures], pulse: Pulse) -> None:
        self._database = database
        self._clock = clock
        self._figures = figures
        self._pulse = pulse
        self._trouble = ""
        self._kind = ""
        self._since = clock.wall()
        self._durable = True
        self._counts: dict[str, int] = {}
        self._rate = 0.0
        self._last = (clock.monotonic(), 0)

    async def run(self) -> None:
        """Look at the database every few seconds, for ever."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.look()
            self._pulse.beat()

    async def look(self) -> None:
        self._measure_rate()
        try:
            self._counts, durable = await self._database.run(_condition)
        except DatabaseMissing as error:
            self._database_is("missing", str(error))
        except SchemaMissing as error:
            self._database_is("not migrated", str(error))
        except DatabaseError as error:
            self._database_is("unreachable", str(error))
        else:
            self._durable_is(durable)
            trouble = self._figures().trouble
            self._database_is("taking no updates" if trouble else "", trouble)

    def _measure_rate(self) -> None:
        now, committed = self._clock.monotonic(), self._figures().committed
        then, before = self._last
        if now > then:
            self._rate = (committed - before) / (now - then)
        self._last = (now, committed)

    def _database_is(self, kind: str, trouble: str) -> None:
        """Logged on the edge: when it begins, when it becomes another, when it ends."""
        self._trouble = trouble
        if kind == self._kind:
            return
        self._kind, self._since = kind, self._clock.wall()
        if kind:
            log.error(fields(f"database {kind}; updates are answered 503", reason=trouble))
        else:
            log.info("database usable again")

    def _durable_is(self, durable: bool) -> None:
        if self._durable and not durable:
            log.error(fields("database may lose what was acknowledged", reason=NOT_DURABLE))
        if durable and not self._durable:
            log.info("database keeps what is acknowledged")
        self._durable = durable

    @property
    def takes_updates(self) -> bool:
        return not self._kind

    @property
    def ok(self) -> bool:
        return self.database_state == "ok"

    @property
    def database_state(self) -> str:
        """One of DATABASE_STATES."""
        return self._kind or ("ok" if self._durable else "not durable")

    @property
    def counts(self) -> dict[str, int]:
        """Jobs that have not ended, by status, as of the last look."""
        return self._counts

    def report(self) -> dict[str, Any]:
        """The body of GET /api/v1/health."""
        figures = self._figures()
        return {
            "status": "ok" if self.ok else "degraded",
            "version": __version__,
            "database": self._database_report(),
            "jobs": self._counts,
            "silent": figures.silent,
            "never_heard": figures.never_heard,
            "queued": figures.queued,
            "committed": figures.committed,
        }

    def _database_report(self) -> str:
        """For anybody who asks: what is missing is told, the server's own words stay in the journal."""
        if self._kind == "not migrated":
            return f"{self._kind} since {self._since_text()}: {self._trouble}"
        if self._kind:
            return f"{self._kind} since {self._since_text()}; the hub's journal and `shactl db status` say why"
        return "ok" if self._durable else NOT_DURABLE

    def status(self) -> str:
        """The line `systemctl status` shows."""
        if self._kind:
            return f"database {self._kind} since {self._since_text()}: {self._trouble}"
        figures = self._figures()
        running = self._counts.get("running", 0)
        parts = [f"{counted(running, 'job')} running", f"{figures.silent} silent"]
        if figures.never_heard:
            parts.append(f"{figures.never_heard} never heard")
        return ", ".join([*parts, f"{self._rate:.1f} updates/s", f"database {self._database_report()}"])

    def _since_text(self) -> str:
        return datetime.datetime.fromtimestamp(self._since, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _condition(session: Session) -> tuple[dict[str, int], bool]:
    session.check_writes()
    return session.counts(), session.durable()
