"""A hub in memory at the sidecar's edge: it answers as told, and remembers what it was sent."""

import asyncio
from collections.abc import Callable, Sequence

import msgspec
from msgspec import Struct

from sbc_daemon.answers import Answer
from telemetry_common.contract import Update, decode_update

UNREACHABLE = Answer(failure="unreachable", detail="connection refused")
TIMEOUT = Answer(failure="timeout", detail="no answer within 15 s")


class Post(Struct, frozen=True):
    at: float
    job_id: str
    update: Update


def ok(result: str = "", *, seq: int | None = None, status: str = "running") -> Answer:
    headers = {"telemetry-status": status}
    if result:
        headers["telemetry-result"] = result
    if seq is not None:
        headers["telemetry-seq"] = str(seq)
    return Answer(status=204, headers=headers)


class ScriptedHub:
    """`answer(post)` decides; by default everything is taken, with `seq` guarded as the real hub does."""

    def __init__(
        self, monotonic: Callable[[], float], latency_seconds: float = 0.005, url: str = "http://hub.example"
    ) -> None:
        self.url = url
        self._monotonic = monotonic
        self._latency_seconds = latency_seconds
        self.posts: list[Post] = []
        self.batches: list[list[str]] = []
        """The jobs of each, taken or not."""
        self.said_of_batches: list[Answer] = []
        self.stored: dict[str, int] = {}
        self.up = True
        self.special: dict[str, list[Answer]] = {}
        self.hanging: set[str] = set()
        self.hung = False
        self.timeout_seconds = 15.0
        self.in_flight = 0
        self.most_in_flight = 0

    async def post(self, job_id: str, body: bytes) -> Answer:
        post = Post(self._monotonic(), job_id, decode_update(body))
        self.posts.append(post)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            if self.hung or job_id in self.hanging:
                await asyncio.sleep(self.timeout_seconds)
                return TIMEOUT
            await asyncio.sleep(self._latency_seconds)
            return self._answer(post)
        finally:
            self.in_flight -= 1

    async def post_batch(self, messages: Sequence[tuple[str, bytes]]) -> Answer:
        """Each message as if it had come alone, where the hub takes batches and nothing special is to be said of it."""
        posts = [Post(self._monotonic(), job_id, decode_update(body)) for job_id, body in messages]
        self.batches.append([post.job_id for post in posts])
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            if self.hung or not self.hanging.isdisjoint(post.job_id for post in posts):
                await asyncio.sleep(self.timeout_seconds)
                return TIMEOUT
            await asyncio.sleep(self._latency_seconds)
            if not self.up:
                return UNREACHABLE
            if self.said_of_batches:
                return self.said_of_batches.pop(0)
            self.posts += posts
            return Answer(status=200, items=tuple(map(self._answer, posts)))
        finally:
            self.in_flight -= 1

    async def alive(self) -> bool:
        return self.up and not self.hung

    async def tend(self) -> None:
        await asyncio.Event().wait()

    async def close(self) -> None:
        return

    def _answer(self, post: Post) -> Answer:
        if not self.up:
            return UNREACHABLE
        if self.special.get(post.job_id):
            return self.special[post.job_id].pop(0)
        seq, stored = post.update.seq, self.stored.get(post.job_id, 0)
        assert seq is not msgspec.UNSET
        if seq <= stored:
            return ok("duplicate" if seq == stored else "stale", seq=stored)
        self.stored[post.job_id] = seq
        return ok(seq=seq, status=post.update.status)

    def seqs(self, job_id: str = "job-1") -> list[object]:
        return [post.update.seq for post in self.posts if post.job_id == job_id]
