"""Several ways to the hub, tried in order: the first that serves is used, and an earlier one again when it is back.

A way is a URL: of the same hub by another road, or of another hub on the same database. That a message may arrive twice
by that does no harm: the hub knows it by its `seq`.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from sbc_daemon.answers import Answer, serves
from telemetry_common.logs import fields
from telemetry_common.text import printable

log = logging.getLogger(__name__)

BACK_SECONDS = 30.0
"""Between two looks whether an earlier way is back, while a later one is used."""


class Route(Protocol):
    @property
    def url(self) -> str: ...

    async def post(self, job_id: str, body: bytes) -> Answer: ...

    async def post_batch(self, messages: Sequence[tuple[str, bytes]]) -> Answer: ...

    async def alive(self) -> bool:
        """Whether a hub is there that can do its work. Never raises for what the network does."""

    async def close(self) -> None: ...


class HubRoutes:
    """A `HubLink` over at least one route."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = routes
        self._answers = [0] * len(routes)
        self._current = 0

    @property
    def url(self) -> str:
        return self._routes[self._current].url

    async def post(self, job_id: str, body: bytes) -> Answer:
        return await self._first_that_serves(lambda route: route.post(job_id, body))

    async def post_batch(self, messages: Sequence[tuple[str, bytes]]) -> Answer:
        return await self._first_that_serves(lambda route: route.post_batch(messages))

    async def tend(self) -> None:
        """For ever: go back to an earlier route when it is there again."""
        while True:
            await asyncio.sleep(BACK_SECONDS)
            for place in range(self._current):
                if await self._routes[place].alive():
                    if place < self._current:
                        self._use(place, "it is back")
                    break

    async def close(self) -> None:
        for route in self._routes:
            await route.close()

    async def _first_that_serves(self, ask: Callable[[Route], Awaitable[Answer]]) -> Answer:
        """What the current route says, or the first other one that serves; else what is told of none serving."""
        found: list[tuple[Route, Answer]] = []
        for place in self._order():
            before = self._answers[place]
            answer = await ask(self._routes[place])
            found.append((self._routes[place], answer))
            if answer.failure is None:
                self._answers[place] += 1
            if serves(answer):
                self._use(place, found[0][1].detail or str(found[0][1].status))
                return answer
            if answer.failure == "timeout":
                if self._answers[place] == before:
                    self._leave(place, answer.detail)
                return answer
        return _none_serves(found)

    def _order(self) -> list[int]:
        return [self._current, *(place for place in range(len(self._routes)) if place != self._current)]

    def _use(self, place: int, reason: str) -> None:
        if place != self._current:
            now, before = self._routes[place].url, self.url
            self._current = place
            log.warning(fields("hub is asked at another URL", now=now, before=before, reason=reason))

    def _leave(self, place: int, reason: str) -> None:
        """It takes requests and answers none: the next request begins with the next route."""
        if place == self._current:
            self._use((place + 1) % len(self._routes), reason)


def _none_serves(found: Sequence[tuple[Route, Answer]]) -> Answer:
    """A hub that says that it cannot serve says how long to wait; else why each could not be reached."""
    for _, answer in found:
        if answer.failure is None:
            return answer
    if len(found) == 1:
        return found[0][1]
    reasons = "; ".join(f"{route.url}: {answer.detail}" for route, answer in found)
    return Answer(failure="unreachable", detail=printable(reasons))
