"""A producer's socket that outlives this process: in systemd's store, its bytes read without being taken.

The kernel keeps what was said until it is written down. Bytes are looked at (MSG_PEEK, each once: SO_PEEK_OFF) and
taken only when all they led to is safe: messages and acks in the outbox and answered, the job they named and what they
attached in records (`survivors`), a line that stays unfinished as well. Whatever moment a kill picks, the next daemon
finds the rest where it was. Progress alone is taken at once: a newer value follows.
"""

import array
import asyncio
import contextlib
import socket
from collections.abc import Iterable
from functools import partial
from typing import NamedTuple

from sbc_daemon import foreign, unread
from sbc_daemon.connection import Connection, Converse, Owner
from sbc_daemon.conversation import MAX_DESCRIPTORS
from sbc_daemon.descriptor_store import RETRY_SECONDS
from sbc_daemon.edges import Edges
from sbc_daemon.intake import Intake
from sbc_daemon.survivor_records import ConnectionRecord, encode
from sbc_daemon.survivors import Survivors

HALF_SECONDS = 0.1
"""A line unfinished for so long is recorded and taken, so that its bytes do not fill the producer's buffer."""
MAX_PIECES = 32
MAX_UNTAKEN_BYTES = 32 << 10
"""Read and not taken, in pieces or bytes, beyond which the record is hurried: a buffer holds some 270 small writes."""


class _Named(NamedTuple):
    """What must be known of the lines so far to understand those that follow: the job named last, and how often
    `attach` was said."""

    job_id: str | None
    attached: int


_NOTHING = _Named(None, 0)


class KeptConnection(Connection):
    """Positions are bytes since this process has it. What was read up to `_written_to` is in the outbox (as far as it
    must be), what must be known of it up to `_recorded_to`; up to `_taken_to` the kernel has forgotten it."""

    flags = Connection.flags | socket.MSG_PEEK
    ancillary_bytes = socket.CMSG_LEN(MAX_DESCRIPTORS * array.array("i").itemsize)
    """What there is no room for stays where it is, and is closed when it is taken."""

    def __init__(
        self,
        owner: Owner,
        accepted: socket.socket,
        converse: Converse,
        intake: Intake,
        loop: asyncio.AbstractEventLoop,
        edges: Edges,
        survivors: Survivors,
        name: str,
    ) -> None:
        self._edges = edges
        self._survivors = survivors
        self._name = name
        self._read_to = self._written_to = self._recorded_to = self._taken_to = self._replay_to = 0
        self._writes = 0
        self._pieces = 0
        self._written_named = self._recorded_named = _NOTHING
        self._half_recorded = self._half_wanted = False
        self._half_timer: asyncio.TimerHandle | None = None
        self._take_timer: asyncio.TimerHandle | None = None
        self._to_record = (0, _NOTHING, False)
        self._leaving = False
        self._reading_on = False
        unread.look_from_the_start(accepted)
        super().__init__(owner, accepted, converse, intake, loop)

    def take_up(self, record: ConnectionRecord) -> None:
        """Go on where an earlier daemon was. Before anything is read."""
        if record.half and unread.first_bytes(self._socket, len(record.half)) == record.half:
            # It was recorded, and the daemon killed before it was taken. No line begins twice in the same words.
            record.half = b""
        self._conversation.take_up(record)
        self._written_named = self._recorded_named = self._named
        self._half_recorded = self._half_wanted = bool(record.half)
        self._replay_to = unread.unread_bytes(self._socket)
        self._conversation.replaying = self._replay_to > 0

    def read_out(self) -> None:
        """Take in what is there, and end it."""
        self.drain()
        self.end_reading()

    def stop(self) -> None:
        """What was read is brought to its end, then the socket is left to the next daemon."""
        self._unwatch()
        self._catch_up()
        self._leaving = True
        self._flush()

    def leave(self) -> None:
        """Let go of it, answered or not, without ending it."""
        for timer in (self._half_timer, self._take_timer):
            if timer is not None:
                timer.cancel()
        self._half_timer = self._take_timer = None
        self._survivors.leave(self._name)
        self._let_go()

    def close(self) -> None:
        """It is over, here and in the store."""
        if self._closed:
            return
        # Closed with bytes unread it would be reset, and its producer lose the answers that it has not read yet.
        unread.take(self._socket, self._read_to - self._taken_to)
        with contextlib.suppress(OSError):
            # The store still has a copy; without this the producer would not notice the end before that is gone.
            self._socket.shutdown(socket.SHUT_RDWR)
        self._survivors.release(self._name)
        self.leave()

    def record(self) -> bytes | None:
        if self._ended or self._closed or self._written_named.attached != self._named.attached:
            return None
        half = not self._conversation.behind and self._conversation.held_bytes > 0
        with_half = self._half_wanted and half and not self._writes
        position = self._read_to if with_half else self._written_to
        self._to_record = (position, self._written_named, with_half)
        return encode(self._conversation.record(self._written_named.job_id, with_half=with_half))

    def recorded(self) -> None:
        position, self._recorded_named, self._half_recorded = self._to_record
        self._half_wanted = False
        self._recorded_to = max(self._recorded_to, position)
        self._written_to = max(self._written_to, position)
        self._flush()
        self._take()
        self._close_if_done()

    @property
    def _closed(self) -> bool:
        return self._socket.fileno() < 0

    @property
    def _whole_to(self) -> int:
        """Where the line begins that is not finished."""
        return self._read_to - self._conversation.held_bytes

    @property
    def _named(self) -> _Named:
        return _Named(self._conversation.job_id, self._conversation.attached)

    def _watch(self) -> None:
        self._edges.add(self._socket.fileno(), self._news)

    def _unwatch(self) -> None:
        self._edges.remove(self._socket.fileno())

    def _news(self) -> None:
        if not self._reading_on:
            self._readable()

    def _readable(self) -> None:
        """One piece each turn: there may be more, of which no further edge will tell."""
        self._reading_on = False
        if self._ended or self._leaving or self._paused or self._closed:
            return
        before = self._read_to
        super()._readable()
        if self._read_to > before and not self._paused:
            self._reading_on = True
            self._loop.call_soon(self._readable)

    def _feed(self, data: bytes, descriptors: Iterable[int]) -> None:
        owed = self._intake.owed
        super()._feed(data, descriptors)
        self._read_to += len(data)
        self._pieces += 1
        self._taken_in(owed)

    def _go_on(self) -> None:
        owed = self._intake.owed
        super()._go_on()
        self._taken_in(owed)

    def _catch_up(self) -> None:
        owed = self._intake.owed
        super()._catch_up()
        self._taken_in(owed)

    def _taken_in(self, owed: int) -> None:
        """Lines were taken in, before which so much was owed to the disk."""
        if self._whole_to >= self._replay_to:
            self._conversation.replaying = False
        if self._intake.owed > owed or self._writes:
            self._wait_for_write(self._whole_to)
        else:
            self._is_written(self._whole_to, self._named)

    def _finish(self) -> None:
        owed = self._intake.owed
        super()._finish()
        if self._intake.owed > owed:
            self._wait_for_write(self._read_to)
        self._answered()

    def _answered(self) -> None:
        """Before the end an answer waits until its question can be taken: else a kill would have it given twice."""
        if self._ended:
            super()._answered()

    def _wait_for_write(self, position: int) -> None:
        self._writes += 1
        self._intake.when_written(partial(self._write_done, position, self._named))

    def _write_done(self, position: int, named: _Named) -> None:
        self._writes -= 1
        if self._ended or self._closed:
            self._close_if_done()
            return
        self._is_written(position, named, soon=True)
        self._close_if_done()

    def _is_written(self, position: int, named: _Named, *, soon: bool = False) -> None:
        self._written_to, self._written_named = max(self._written_to, position), named
        if named == self._recorded_named and not self._half_recorded:
            self._recorded_to = max(self._recorded_to, position)
        if self._recorded_to >= self._written_to and self._unsent and not self._flushing:
            self._flush()
        self._take()
        self._see_to_record(soon=soon or bool(self._unsent))

    def _see_to_record(self, *, soon: bool = False) -> None:
        many = self._pieces >= MAX_PIECES or self._read_to - self._taken_to >= MAX_UNTAKEN_BYTES
        if self._conversation.held_bytes:
            self._half_wanted |= many
            if self._half_timer is None:
                self._half_timer = self._loop.call_later(HALF_SECONDS, self._still_half, self._whole_to)
        if self._half_wanted or self._recorded_to < self._written_to:
            self._survivors.keep(self._name, self)
            if many or soon:
                self._survivors.hurry()

    def _still_half(self, whole_to: int) -> None:
        self._half_timer = None
        if self._conversation.held_bytes:
            self._half_wanted |= self._whole_to == whole_to
            self._see_to_record()

    def _take(self) -> None:
        """Have the kernel forget what is safe."""
        count = min(self._written_to, self._recorded_to) - self._taken_to
        if count <= 0 or self._ended or self._closed:
            return
        taken = unread.take(self._socket, count)
        self._taken_to += taken
        self._pieces = 0
        if taken < count and self._take_timer is None:
            self._take_timer = self._loop.call_later(foreign.RETRY_SECONDS, self._take_again)

    def _take_again(self) -> None:
        self._take_timer = None
        self._take()

    def _close_if_done(self) -> None:
        if self._writes or self._closed:
            return
        if self._ended and self._recorded_named.attached != self._named.attached:
            # It has said `attach` with its last words: only its unread bytes tell of it until that is recorded.
            self._recorded_named = self._named
            self._writes += 1
            self._survivors.when_recorded(partial(self._write_done, self._read_to, self._named))
        elif not self._leaving or self._ended:
            super()._close_if_done()
        elif self._conversation.unanswered or (self._flushing and not self._blocked):
            return
        elif self._unsent:
            self.end_reading()  # it reads no answers: half an answer must not be followed by another daemon's
        elif self._recorded_to < self._whole_to:
            self._see_to_record(soon=True)
        elif self._survivors.waits(self._name):
            self._loop.call_later(RETRY_SECONDS, self._close_if_done)
        else:
            self._take()
            self.leave()
