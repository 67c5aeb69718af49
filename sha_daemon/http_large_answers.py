"""Answers that are more than a connection's buffer holds: written a piece at a time, all of them in one bounded room.

A small answer goes out at once, or lies in the buffer of its connection, which is bounded by itself. A large one is
kept until its reader has taken it: many readers that take nothing would otherwise fill the memory.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeGuard

from aiohttp import web

from sha_daemon.replies import unavailable

SMALL_BYTES = 16 << 10
ROOM_BYTES = 32 << 20
"""Some sixty pages of 1,000 jobs; of the longest there can be, five."""
PIECE_BYTES = 64 << 10


class AnswerRoom:
    """How many bytes of large answers may be on their way at once, on all connections together."""

    def __init__(self, most_bytes: int = ROOM_BYTES) -> None:
        self._free = most_bytes

    @contextmanager
    def held(self, size: int) -> Iterator[None]:
        """Room for `size` bytes within the block. Raises Problem (503) if there is none."""
        if size > self._free:
            raise unavailable("too many large answers wait for their readers to take them; try again", "large_answers")
        self._free -= size
        try:
            yield
        finally:
            self._free += size


def is_large(answer: web.StreamResponse, request: web.Request) -> TypeGuard[web.Response]:
    return (
        isinstance(answer, web.Response)
        and isinstance(answer.body, bytes)
        and len(answer.body) > SMALL_BYTES
        and request.method != "HEAD"
    )


async def written(answer: web.Response, request: web.Request, room: AnswerRoom) -> web.Response:
    """`answer`, once its reader has taken all but what the connection's buffer holds.

    Raises Problem (503), with nothing written, where there is no room, and ConnectionError where the reader leaves.
    """
    body = memoryview(answer.body if isinstance(answer.body, bytes) else b"")
    with room.held(len(body)):
        await answer.prepare(request)
        for start in range(0, len(body), PIECE_BYTES):
            await answer.write(body[start : start + PIECE_BYTES])
            await request.writer.drain()
        await web.StreamResponse.write_eof(answer)  # the response's own would write its body again
    return answer
