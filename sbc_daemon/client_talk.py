"""The thread behind a `Job`: what is still to be said, and when. Standard library only."""

import contextlib
import os
import select
import socket
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from functools import reduce

from sbc_daemon.client_wire import Fields, Wire, ended_so, lines, merged, unsaid

FLUSH_SECONDS = 0.5
"""Figures are sent at most this often; the sidecar's own cadence is slower still."""
MAX_WAITING_STATES = 256
"""State changes kept while nobody takes them; beyond it the two oldest become one."""
LINGER_SECONDS = 86_400.0
"""An end that nobody has confirmed in time is still said when the sidecar is back, as long as this process lives."""


class Talk:
    """The thread that talks to the sidecar, and what is still to be said.

    What is to be said goes into `_inbox` and is the thread's from then on: no caller ever waits for a lock, also not a
    signal's handler that reports from within a report. A state change stays in `_waiting` until the sidecar has
    confirmed it; after a reconnect `_known` (all that is confirmed) is said first, but for what the waiting ones say
    anew, and then those in order, so that a new sidecar learns everything. `_repeated` are those that were said before:
    of an end among them perhaps only the answer was lost.
    """

    def __init__(self, job_id: str, attach: object, figures: Callable[[], Fields], path: str) -> None:
        self._job_id, self._attach, self._figures = job_id, attach, figures
        self._wire = Wire(path)
        self._inbox: deque[tuple[Fields, Fields, bool]] = deque()
        self._number = 0
        self._ended = False
        self._waiting: dict[int, tuple[Fields, Fields]] = {}
        self._unsent: deque[int] = deque()
        self._repeated: set[int] = set()
        self._known: Fields = {}
        self._told: Fields = {}
        self._next_flush = 0.0
        self._introduced = False
        self._final = False
        self._deadline: float | None = None
        self._stopped = threading.Event()
        self._waker, self._woken = _pair()
        weakref.finalize(self, _close, self._waker, self._woken).atexit = False
        self._thread = threading.Thread(target=self._run, name=f"sbc-report {job_id}", daemon=True)
        self.refused: str | None = None
        _talks.add(self)

    def start(self) -> None:
        self._thread.start()

    def say(self, change: Fields, figures: Fields, *, final: bool = False) -> None:
        """Queue a state change, which contains `figures`. After a `final` one nothing more is said."""
        if self._deadline is None and not self._final and not self._stopped.is_set():
            self._final = final
            self._inbox.append((change, figures, final))
            self._rouse()

    @property
    def connected(self) -> bool:
        return self._wire.connected

    def close(self, timeout: float) -> bool:
        """Wait until all is said and confirmed, for at most so many seconds; an end is said all the same, later."""
        if self._deadline is None:
            self._deadline = time.monotonic() + timeout + (LINGER_SECONDS if self._final else 0.0)
            self._wire.try_now()
        self._rouse()
        self._stopped.wait(timeout)
        return self._all_confirmed() and self.refused is None

    def silence(self) -> None:
        """In a forked child, which has no such thread: the connection and the job are the parent's."""
        self._deadline = 0.0
        self._wire.close()
        self._stopped = threading.Event()  # the parent's may have been locked at this moment
        self._stopped.set()

    def _rouse(self) -> None:
        if not self._stopped.is_set():
            with contextlib.suppress(OSError):  # full: it is awake
                self._waker.send(b"\0")

    def _all_confirmed(self) -> bool:
        return not self._inbox and not self._waiting

    def _take_in(self) -> None:
        """Number what is new. It leaves the inbox last, so that it is always in one of the two."""
        while self._inbox:
            change, figures, final = self._inbox[0]
            if not self._ended:
                self._ended = final
                self._number += 1
                self._waiting[self._number] = (change, figures)
                self._unsent.append(self._number)
            self._inbox.popleft()
            if len(self._waiting) > MAX_WAITING_STATES:
                self._thin()

    def _thin(self) -> None:
        oldest, second = list(self._waiting)[:2]
        change, figures = self._waiting[second]
        self._waiting[second] = (merged(self._waiting.pop(oldest)[0], change), figures)
        if oldest in self._unsent:
            self._unsent.remove(oldest)

    def _run(self) -> None:
        try:
            while not self._finished():
                self._take_in()
                if self._wire.connect():
                    self._begin()
                self._speak()
                self._pause()
                self._hear()
            self._wire.close()
        except OSError:
            pass  # somebody has closed our descriptors; by now they may be others', and are left alone
        finally:
            self._stopped.set()

    def _finished(self) -> bool:
        if self._deadline is None:
            return False
        said = self._all_confirmed() and self._wire.idle() and not self._figures_wanted()
        return said or time.monotonic() >= self._deadline

    def _begin(self) -> None:
        self._repeated |= self._waiting.keys() - set(self._unsent)
        self._unsent = deque(self._waiting)
        self._told, self._introduced = {}, False
        known = reduce(unsaid, (change for change, _ in self._waiting.values()), self._known)
        if known:
            self._put(known)

    def _hear(self) -> None:
        for answer in self._wire.received():
            confirmed = self._waiting.get(answer["ack"])
            if confirmed is None:
                continue
            self._known = merged(self._known, confirmed[0])
            repeated = answer["ack"] in self._repeated
            self._repeated.discard(answer["ack"])
            taken = answer.get("ok") is True or (repeated and ended_so(answer, confirmed[0]))
            self.refused = None if taken else str(answer.get("error", "no reason given"))
            del self._waiting[answer["ack"]]

    def _speak(self) -> None:
        """Put what is to be said on the wire, one thing at a time: while it is full, newer figures replace older."""
        while self._wire.flush():
            if self._unsent:
                number = self._unsent.popleft()
                change, self._told = self._waiting[number]
                self._put({**change, "ack": number})
                continue
            if not self._figures_due():
                return
            self._told = self._figures()
            self._next_flush = time.monotonic() + FLUSH_SECONDS
            self._put(self._told)

    def _figures_due(self) -> bool:
        ending = self._deadline is not None
        return (ending or time.monotonic() >= self._next_flush) and self._figures_wanted()

    def _figures_wanted(self) -> bool:
        """Whether there are newer figures than the told ones. The final change carries the last."""
        return not self._final and self._told != self._figures()

    def _put(self, fields: Fields) -> None:
        introduction = {} if self._introduced else {"attach": self._attach}
        self._introduced = True
        self._wire.put(lines({"job_id": self._job_id, **introduction, **fields}))

    def _pause(self) -> None:
        """Until there is something to do: a state change, an answer, room on the wire, or the next tick."""
        seconds = self._wire.pause_seconds() if not self._wire.connected else self._next_flush - time.monotonic()
        seconds = min(max(seconds, 0.0) or FLUSH_SECONDS, FLUSH_SECONDS)
        if self._deadline is not None:
            seconds = min(seconds, max(0.0, self._deadline - time.monotonic()))
        poll = select.poll()
        poll.register(self._woken, select.POLLIN)
        self._wire.register(poll)
        for descriptor, _ in poll.poll(seconds * 1000 + 1):
            if descriptor == self._woken.fileno():
                self._woken.recv(4096)


def _pair() -> tuple[socket.socket, socket.socket]:
    """What wakes the thread. Sockets, and no eventfd: where a program has closed all descriptors and opened files
    since, a send fails, and a write would go into one of them."""
    ends = socket.socketpair()
    for end in ends:
        end.setblocking(False)
    return ends


def _close(*ends: socket.socket) -> None:
    for end in ends:
        end.close()


_talks: "weakref.WeakSet[Talk]" = weakref.WeakSet()


def _silence_in_child() -> None:
    for talk in list(_talks):
        talk.silence()


os.register_at_fork(after_in_child=_silence_in_child)
