"""A producer's connection to the sidecar."""

import random
from collections.abc import Callable
from typing import Protocol

from sbc_daemon.conversation import Conversation
from sbc_daemon.processes import Peer
from simulation.loop import VirtualLoop
from simulation.programs import Program
from simulation.realm import Realm

UID = 1000


class Listener(Protocol):
    """The machine that a channel belongs to."""

    loop: VirtualLoop
    chance: random.Random
    channels: "dict[Channel, None]"

    def converse(self, peer: Peer, write: Callable[[bytes], None]) -> Conversation: ...


class Channel:
    """One producer's connection: what it writes is read a moment later, what is not read when the daemon dies is gone.

    `heard` is called with each answer, `broken` once when the connection is no more.
    """

    def __init__(self, host: Listener, realm: Realm, program: Program) -> None:
        self.open = True
        self.heard: Callable[[bytes], None] = lambda answer: None
        self.broken: Callable[[], None] = lambda: None
        self._host = host
        self._realm = realm
        self._unread: list[tuple[bytes, Callable[[], None]]] = []
        self._reading = False
        self._conversation: Conversation = realm.call(host.converse, Peer(UID, program.pid, program), self._answer)

    def write(self, line: bytes, read: Callable[[], None]) -> None:
        """`read` is called when the daemon takes it in, just before."""
        self._unread.append((line, read))
        if not self._reading:
            self._reading = True
            self._host.loop.call_later(self._host.chance.random() * 0.002, self.take)

    def take(self) -> None:
        """The daemon reads all that is there."""
        self._reading = False
        if not self.open or not self._realm.alive:
            return
        lines, self._unread = self._unread, []
        for _, read in lines:
            read()
        if lines:
            self._realm.call(self._conversation.feed, b"".join(line for line, _ in lines))
            self._realm.call(self._conversation.catch_up)

    def close(self) -> None:
        """By the producer, or because its process is gone: what it had written is still read."""
        self.take()
        self._end()
        if self._realm.alive:
            self._realm.call(self._conversation.finish)
            self._realm.call(self._conversation.close)

    def cut(self) -> None:
        """The daemon is gone, or closes it."""
        if self.open:
            self._end()
            self._host.loop.call_soon(self.broken)

    def _end(self) -> None:
        self.open = False
        self._host.channels.pop(self, None)

    def _answer(self, answer: bytes) -> None:
        if self.open and self._realm.alive:
            self._host.loop.call_soon(self._hand_over, answer)

    def _hand_over(self, answer: bytes) -> None:
        """An answer in the socket can be read also when its writer is dead by then."""
        self.heard(answer)
