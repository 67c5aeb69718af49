"""The thread behind a `Job`: what is still to be said, and when. Standard library only."""

import os
import select
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable

from sbc_daemon.client_wire import Fields, Wire, ended_so, lines, merged

FLUSH_SECONDS = 0.5
"""Figures are sent at most this often; the sidecar's own cadence is slower still."""
MAX_WAITING_STATES = 256
"""State changes kept while nobody takes them; beyond it the two oldest become one."""


class Talk:
    """The thread that talks to the sidecar, and what is still to be said.

    A state change stays in `_waiting` until the sidecar has confirmed it; after a reconnect `_known` (all that is
    confirmed) is said first, then the waiting ones in order, so that a new sidecar learns everything. `_repeated` are
    those that were said before: of an end among them perhaps only the answer was lost.
    """

    def __init__(self, job_id: str, attach: object, figures: Callable[[], Fields], path: str) -> None:
        self._job_id, self._attach, self._figures = job_id, attach, figures
        self._wire = Wire(path)
        self._lock = threading.Lock()
        self._waiting: dict[int, tuple[Fields, Fields]] = {}
        self._unsent: deque[int] = deque()
        self._repeated: set[int] = set()
        self._known: Fields = {}
        self._number = 0
        self._told: Fields = {}
        self._next_flush = 0.0
        self._introduced = False
        self._final = False
        self._deadline: float | None = None
        self._stopped = threading.Event()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        weakref.finalize(self, os.close, self._wake).atexit = False
        self._thread = threading.Thread(target=self._run, name=f"sbc-report {job_id}", daemon=True)
        self.refused: str | None = None
        _talks.add(self)

    def start(self) -> None:
        self._thread.start()

    def say(self, change: Fields, figures: Fields, *, final: bool = False) -> None:
        """Queue a state change, which contains `figures`. After a `final` one nothing more is said."""
        with self._lock:
            if self._deadline is not None or self._final:
                return
            self._final = final
            self._number += 1
            self._waiting[self._number] = (change, figures)
            self._unsent.append(self._number)
            if len(self._waiting) > MAX_WAITING_STATES:
                self._thin()
        self._rouse()

    @property
    def connected(self) -> bool:
        return self._wire.connected

    def close(self, timeout: float) -> bool:
        with self._lock:
            if self._deadline is None:
                self._deadline = time.monotonic() + timeout
                self._wire.try_now()
        self._rouse()
        self._stopped.wait(timeout)
        return not self._waiting and self.refused is None

    def silence(self) -> None:
        """In a forked child, which has no such thread: the connection and the job are the parent's."""
        self._lock = threading.Lock()
        self._deadline = 0.0
        self._wire.close()
        self._stopped.set()

    def _rouse(self) -> None:
        if not self._stopped.is_set():
            os.eventfd_write(self._wake, 1)

    def _thin(self) -> None:
        oldest, second = list(self._waiting)[:2]
        change, figures = self._waiting[second]
        self._waiting[second] = (merged(self._waiting.pop(oldest)[0], change), figures)
        if oldest in self._unsent:
            self._unsent.remove(oldest)

    def _run(self) -> None:
        while not self._finished():
            if self._wire.connect():
                self._begin()
            self._speak()
            self._pause()
            self._hear()
        self._wire.close()
        self._stopped.set()

    def _finished(self) -> bool:
        if self._deadline is None:
            return False
        said = not self._waiting and self._wire.idle() and not self._figures_wanted()
        return said or time.monotonic() >= self._deadline

    def _begin(self) -> None:
        with self._lock:
            self._repeated |= self._waiting.keys() - set(self._unsent)
            self._unsent = deque(self._waiting)
            self._told, self._introduced = {}, False
            if self._known:
                self._put(self._known)

    def _hear(self) -> None:
        for answer in self._wire.received():
            with self._lock:
                confirmed = self._waiting.pop(answer["ack"], None)
                if confirmed is None:
                    continue
                self._known = merged(self._known, confirmed[0])
                repeated = answer["ack"] in self._repeated
                self._repeated.discard(answer["ack"])
            taken = answer.get("ok") is True or (repeated and ended_so(answer, confirmed[0]))
            self.refused = None if taken else str(answer.get("error", "no reason given"))

    def _speak(self) -> None:
        """Put what is to be said on the wire, one thing at a time: while it is full, newer figures replace older."""
        while self._wire.flush():
            with self._lock:
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
        poll.register(self._wake, select.POLLIN)
        self._wire.register(poll)
        for descriptor, _ in poll.poll(seconds * 1000 + 1):
            if descriptor == self._wake:
                os.eventfd_read(self._wake)


_talks: "weakref.WeakSet[Talk]" = weakref.WeakSet()


def _silence_in_child() -> None:
    for talk in list(_talks):
        talk.silence()


os.register_at_fork(after_in_child=_silence_in_child)
