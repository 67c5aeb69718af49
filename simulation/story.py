"""What happened, event by event: hashed, so that two runs can be compared to the byte, and kept to be read."""

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable

from msgspec import Struct

from simulation.loop import VirtualLoop

_KEPT_OF_ALL = 400
_KEPT_OF_A_JOB = 600
Event = tuple[float, str, str, object]
"""When (virtual seconds), of which job (empty: of all), what, and more about it."""


class Violation(Struct, frozen=True):
    """A promise was broken, at `at`. `job` is the one that it was about; empty where it was about none."""

    invariant: str
    job: str
    detail: str
    at: float


class Story:
    """`note` is called with plain values only: what is hashed must not have an address in it.

    `violation` is the first one; `violated` is called then.
    """

    def __init__(self, loop: VirtualLoop, violated: Callable[[], None]) -> None:
        self._loop = loop
        self._hash = hashlib.blake2b(digest_size=16)
        self._general: deque[Event] = deque(maxlen=_KEPT_OF_ALL)
        self._of_jobs: dict[str, deque[Event]] = {}
        self.events = 0
        self.violation: Violation | None = None
        self._violated = violated
        self._awaited: dict[str, asyncio.Event] = {}

    def violate(self, invariant: str, job: str, detail: str) -> None:
        self.note(f"VIOLATION of: {invariant}", job, detail)
        if self.violation is None:
            self.violation = Violation(invariant, job, detail, self._loop.now)
            self._violated()

    def note(self, what: str, job: str = "", more: object = "") -> None:
        if what in self._awaited:
            self._awaited.pop(what).set()
        event = (self._loop.now, job, what, more)
        self.events += 1
        self._hash.update(repr(event).encode())
        if job:
            kept = self._of_jobs.get(job)
            if kept is None:
                kept = self._of_jobs[job] = deque(maxlen=_KEPT_OF_A_JOB)
            kept.append(event)
        else:
            self._general.append(event)

    async def next(self, what: str) -> None:
        """Until this is noted."""
        await self._awaited.setdefault(what, asyncio.Event()).wait()

    def digest(self) -> str:
        return self._hash.hexdigest()

    def of(self, job: str) -> list[str]:
        """What happened to this job, and around it, in order."""
        events = sorted([*self._general, *self._of_jobs.get(job, ())], key=lambda event: event[0])
        return [f"{at:14.3f}  {whose or '-':16} {what} {more}".rstrip() for at, whose, what, more in events]
