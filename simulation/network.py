"""The network between a sidecar and a hub: it loses, delays, repeats and reorders, refuses, and falls silent.

The client's half is what `hub_link` makes of such things; the hub's half is aiohttp itself (`hub_host`), which reads
and writes real HTTP. A request on its way lives on when its sender has given up or died: it may arrive after a repeat.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol

from sbc_daemon.answers import Answer, Failure
from sbc_daemon.hub_answers import read_answer, read_batch_answer
from simulation.faults import Dice, between
from simulation.ground import Ground
from simulation.loop import VirtualLoop
from simulation.transport import Response, job_path, request

CONNECT_SECONDS = 3.0
TIMEOUT_SECONDS = 15.0
"""The sidecar's own settings."""
KINDS = (
    "request lost",
    "request lost in silence",
    "request late",
    "request repeated",
    "request overtaken",
    "reply lost",
    "reply lost in silence",
    "reply late",
)
_LATEST_SECONDS = 600.0
_Read = Callable[[int, Mapping[str, str], bytes], Answer]


class Exchange:
    """One request, from the moment it is sent. `job_ids` are those of its messages, in order; its answer takes `back`
    seconds."""

    __slots__ = ("answer", "back", "data", "job_ids", "reply_lost", "sent_at")

    def __init__(self, data: bytes, job_ids: Sequence[str], sent_at: float, back: float) -> None:
        self.data = data
        self.job_ids = job_ids
        self.sent_at = sent_at
        self.reply_lost = ""
        self.answer: asyncio.Future[Response] | None = None
        self.back = back

    def answered(self, response: Response, loop: VirtualLoop) -> None:
        """By the hub. What becomes of that is the network's affair."""
        if self.reply_lost == "reply lost":
            self.broken(loop)
        elif not self.reply_lost and self.answer is not None:
            loop.call_later(self.back, _settle, self.answer, response)

    def broken(self, loop: VirtualLoop) -> None:
        """The connection is gone without an answer, and both ends hear of it."""
        if self.answer is not None and self.reply_lost != "reply lost in silence":
            loop.call_later(self.back, _fail, self.answer)


def _settle(answer: "asyncio.Future[Response]", response: Response) -> None:
    if not answer.done():
        answer.set_result(response)


def _fail(answer: "asyncio.Future[Response]") -> None:
    if not answer.done():
        answer.set_exception(ConnectionResetError("connection reset by peer"))


class Host(Protocol):
    """Where requests go."""

    @property
    def refuses(self) -> bool:
        """Nobody listens there, not even a socket that waits for its hub."""

    def arrive(self, exchange: Exchange) -> None: ...


class Network:
    """Of one world. `shut` is how the way is closed for now, if it is: refused or silent."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.shut = ""
        self.dice = Dice(ground.faults, "network", KINDS)


class Route:
    """Implements `hub_routes.Route`: one URL, which leads to one host."""

    def __init__(self, network: Network, url: str, host: Host) -> None:
        self.url = url
        self._network = network
        self._host = host

    async def post(self, job_id: str, body: bytes) -> Answer:
        self._network.ground.truth.sending(job_id, body)
        return await self._ask(request(job_path(job_id), body), (job_id,), read_answer)

    async def post_batch(self, messages: Sequence[tuple[str, bytes]]) -> Answer:
        for job_id, body in messages:
            self._network.ground.truth.sending(job_id, body)
        body = b'{"updates":[' + b",".join(body for _, body in messages) + b"]}"
        job_ids = [job_id for job_id, _ in messages]
        return await self._ask(request("telemetry/batch", body), job_ids, partial(read_batch_answer, job_ids=job_ids))

    async def alive(self) -> bool:
        return (await self._ask(request("health", None), (), read_answer)).status == 200

    async def close(self) -> None: ...

    async def _ask(self, data: bytes, job_ids: Sequence[str], read: _Read) -> Answer:
        network, loop = self._network, self._network.ground.loop
        if network.shut == "silent":
            network.ground.story.note("connection swallowed")
            await asyncio.sleep(CONNECT_SECONDS)
            return _failed("unreachable", f"no connection within {CONNECT_SECONDS:g} s")
        if network.shut or self._host.refuses:
            network.ground.story.note("connection refused")
            await asyncio.sleep(0.001)
            return _failed("unreachable", "connection refused")
        chance = network.dice.chance
        exchange = Exchange(data, job_ids, loop.now, 0.0005 + 0.004 * chance.random())
        exchange.answer = loop.create_future()
        self._send(exchange)
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                response = await exchange.answer
        except TimeoutError:
            return _failed("timeout", f"no answer within {TIMEOUT_SECONDS:g} s")
        except OSError as error:
            return _failed("unreachable", str(error))
        return read(response.status, response.headers, response.content)

    def _send(self, exchange: Exchange) -> None:
        """On its way, with what happens to it there."""
        network, loop = self._network, self._network.ground.loop
        chance = network.dice.chance
        there = 0.0005 + 0.004 * chance.random()
        fault = network.dice.throw()
        if fault:
            network.ground.faults.note(fault, exchange.job_ids[0] if exchange.job_ids else "")
        if fault == "request lost":
            loop.call_later(there, exchange.broken, loop)
            return
        if fault == "request lost in silence":
            return
        if fault == "request overtaken":
            if exchange.answer is not None:
                loop.call_later(there, _fail, exchange.answer)
            there, exchange.reply_lost = between(chance, 0.01, _LATEST_SECONDS), "reply lost in silence"
        elif fault == "request late":
            there = between(chance, 0.05, _LATEST_SECONDS / 20)
        elif fault == "request repeated":
            again = Exchange(exchange.data, exchange.job_ids, exchange.sent_at, 0.0)
            loop.call_later(between(chance, 0.001, _LATEST_SECONDS), self._host.arrive, again)
        elif fault == "reply late":
            exchange.back = between(chance, 0.05, _LATEST_SECONDS / 20)
        elif fault:
            exchange.reply_lost = fault
        loop.call_later(there, self._host.arrive, exchange)


def _failed(failure: Failure, detail: str) -> Answer:
    return Answer(failure=failure, detail=detail)
