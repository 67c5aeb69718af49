"""One producer's socket: reads for the conversation, sends its answers, never waits for the producer.

Reading is `recvmsg` in large pieces (a descriptor may come along), once per turn of the loop, and only when the last
piece was taken in, so that one that floods does not starve the others. Answers that are not taken are dropped and
counted.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterable
from typing import Protocol

from sbc_daemon import unread
from sbc_daemon.conversation import Conversation
from sbc_daemon.foreign import RETRY_SECONDS
from sbc_daemon.intake import Intake
from sbc_daemon.processes import Peer, peer_of

READ_BYTES = 64 << 10
MAX_UNREAD_ANSWERS_BYTES = 64 << 10
"""Answers kept for a producer that does not read."""
DRAIN_BYTES = 4 << 20
"""Read from one connection before a verdict: far more than a socket's buffer holds, and yet an end."""

Converse = Callable[[Peer, Callable[[bytes], None]], Conversation]


class Owner(Protocol):
    """What a connection tells the listener."""

    answers_dropped: int

    def forget(self, connection: "Connection") -> None: ...


class Connection:
    """One producer's socket. It is closed when the producer is done, all acks are answered and the answers sent."""

    flags = socket.MSG_CMSG_CLOEXEC
    ancillary_bytes = unread.ANCILLARY_BYTES
    """How it is read: with room for all descriptors, as the kernel would close the rest, and might wait for that."""

    def __init__(
        self,
        owner: Owner,
        accepted: socket.socket,
        converse: Converse,
        intake: Intake,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._owner = owner
        self._socket = accepted
        self._intake = intake
        self._loop = loop
        self._unsent = bytearray()
        self._flushing = False
        self._blocked = False
        self._paused = False
        self._ended = False
        self._deaf = False
        self._read_full = False
        self._conversation = converse(peer_of(accepted), self.write)
        self._watch()

    def write(self, answer: bytes) -> None:
        """Send it when the producer takes it; never wait for that."""
        if self._deaf or len(self._unsent) + len(answer) > MAX_UNREAD_ANSWERS_BYTES:
            self._owner.answers_dropped += 1
        else:
            self._unsent += answer
        self._answered()

    def drain(self) -> None:
        """Read what is there, now."""
        self._catch_up()
        taken = 0
        while not self._ended and taken < DRAIN_BYTES:
            count = self._read()
            if count == 0:
                return
            self._catch_up()
            taken += count

    def end_reading(self) -> None:
        """The producer is done, or the daemon stops."""
        if self._ended:
            return
        self._ended = True
        self._unwatch()
        self._finish()
        self._close_if_done()

    def stop(self) -> None:
        """The daemon stops."""
        self.end_reading()

    def leave(self) -> None:
        """At once, answered or not."""
        self.close()

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)  # nothing more comes, whatever is unread
            self._let_go()

    def _let_go(self) -> None:
        self._unwatch()
        self._loop.remove_writer(self._socket.fileno())
        self._conversation.close()
        unread.close(self._socket)
        self._owner.forget(self)

    def _answered(self) -> None:
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _watch(self) -> None:
        self._loop.add_reader(self._socket.fileno(), self._readable)

    def _unwatch(self) -> None:
        self._loop.remove_reader(self._socket.fileno())

    def _readable(self) -> None:
        self._read()
        if not self._ended and not self._paused and self._must_wait():
            self._unwatch()
            self._wait()

    def _must_wait(self) -> bool:
        return self._conversation.behind or self._waits_for_disk()

    def _waits_for_disk(self) -> bool:
        """Who floods leaves the interpreter to the thread that writes: each of that thread's steps would wait for its
        lock for milliseconds, and everybody's acks for that."""
        floods = self._conversation.behind or self._read_full
        return self._conversation.ahead_of_disk or self._intake.crowded or (floods and self._intake.writing)

    def _wait(self) -> None:
        """Read no more until the disk has caught up, or for what was read until its next turn has come."""
        self._paused = True
        if self._waits_for_disk():
            self._intake.when_clear(self._take_turn)
        else:
            self._take_turn()

    def _wait_for_closing(self) -> None:
        """Read no more until the descriptors that come next can be taken in."""
        if not self._paused:
            self._unwatch()
            self._paused = True
            self._loop.call_later(RETRY_SECONDS, self._resume)

    def _take_turn(self) -> None:
        self._loop.call_soon(self._resume)

    def _resume(self) -> None:
        self._paused = False
        if self._ended or self._socket.fileno() < 0:
            return
        self._go_on()
        if self._must_wait():
            self._wait()
        else:
            self._watch()

    def _read(self) -> int:
        """One piece; its length, 0 when there is none for now or ever."""
        if unread.must_wait(self._socket, READ_BYTES):
            self._wait_for_closing()
            return 0
        try:
            data, ancillary, _, _ = self._socket.recvmsg(READ_BYTES, self.ancillary_bytes, self.flags)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:
            data, ancillary = b"", []
        self._read_full = len(data) == READ_BYTES
        if data:
            self._feed(data, unread.descriptors(ancillary) if ancillary else ())
        else:
            self.end_reading()
        return len(data)

    def _feed(self, data: bytes, descriptors: Iterable[int]) -> None:
        self._conversation.feed(data, descriptors)

    def _go_on(self) -> None:
        self._conversation.go_on()

    def _catch_up(self) -> None:
        self._conversation.catch_up()

    def _finish(self) -> None:
        self._conversation.finish()

    def _flush(self) -> None:
        """Answers that came up in one turn leave in one piece."""
        self._flushing = False
        if self._socket.fileno() < 0:
            return
        try:
            if self._unsent:
                del self._unsent[: self._socket.send(self._unsent)]
        except BlockingIOError:
            pass
        except OSError:
            self._deaf = True
            self._unsent.clear()
        if self._unsent and self._ended:
            # It has said all and does not read: it gets what its buffer holds, and the connection does not stay for it.
            self._owner.answers_dropped += 1
            self._unsent.clear()
        elif self._unsent:
            self._flushing = self._blocked = True
            self._loop.add_writer(self._socket.fileno(), self._writable)
        self._close_if_done()

    def _writable(self) -> None:
        self._blocked = False
        self._loop.remove_writer(self._socket.fileno())
        self._flush()

    def _close_if_done(self) -> None:
        if self._ended and not self._unsent and not self._conversation.unanswered:
            self.close()
