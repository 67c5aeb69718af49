"""Tells of new bytes on a socket once, and not for as long as some are there: for sockets whose bytes stay unread."""

import asyncio
import select
from collections.abc import Callable

_NEWS = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET


class Edges:
    """One edge-triggered epoll that the event loop watches. Callbacks come from the loop, one turn later."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[], None]] = {}
        loop.add_reader(self._epoll.fileno(), self._tell)

    def add(self, descriptor: int, callback: Callable[[], None]) -> None:
        """Call back with every arrival from now on, and once for what is there already."""
        self._callbacks[descriptor] = callback
        self._epoll.register(descriptor, _NEWS)

    def remove(self, descriptor: int) -> None:
        """Before it is closed: a copy in the descriptor store would go on telling of it. No error if it was not
        added."""
        if self._callbacks.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def close(self) -> None:
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def _tell(self) -> None:
        for descriptor, _ in self._epoll.poll(0):
            callback = self._callbacks.get(descriptor)
            if callback is not None:
                # Not called here: an exception in one would swallow the news of the others.
                self._loop.call_soon(callback)
