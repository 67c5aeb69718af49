"""What is killed, cut off and started again, each on a thread of its own that owns its process.

A child dies with the thread that started it: so a victim's thread stays until the scene is over.
"""

import random
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol

from soak.link import PARTITIONS, Link
from testbed.mariadb import PrivateMariaDB
from testbed.processes import Daemon, DaemonFailed


class Killable(Protocol):
    def start(self) -> None: ...

    def kill(self) -> None: ...

    def stop(self) -> object: ...


class Victim(ABC):
    """Lives for `pause` seconds, dies, and so on, `deaths` times; then it lives until `leave`.

    `error` is what it died of for good: a start that failed.
    """

    def __init__(self, name: str, deaths: int, pause: tuple[float, float], rng: random.Random) -> None:
        self.name = name
        self.died = 0
        self.down_seconds = 0.0
        self.error: BaseException | None = None
        self._deaths = deaths
        self._pause = pause
        self._random = rng
        self._begin, self._over = threading.Event(), threading.Event()
        self._ready, self._spared = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"victim {name}", daemon=True)
        self._thread.start()

    def up(self) -> None:
        """Returns when it serves for the first time. Raises what kept it from that."""
        self._ready.wait()
        if self.error is not None:
            raise self.error

    def haunt(self) -> None:
        """From now on it dies."""
        self._begin.set()

    def spare(self, seconds: float) -> bool:
        """Whether all its deaths are over, and it is up again, within `seconds`."""
        return self._spared.wait(seconds)

    def enough(self) -> None:
        """It dies no more."""
        self._deaths = 0

    def leave(self) -> None:
        """Stop it in order."""
        self._over.set()
        self._begin.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            self.start()
            self._ready.set()
            self._begin.wait()
            while self.died < self._deaths and not self._over.is_set():
                time.sleep(self._random.uniform(*self._pause))
                begun = time.monotonic()
                self.die()
                self.died += 1
                self.down_seconds += time.monotonic() - begun
            self._spared.set()
            self._over.wait()
        except BaseException as error:
            self.error = error
        finally:
            self._ready.set()
            self._spared.set()
            self.stop()

    @abstractmethod
    def start(self) -> None: ...

    @abstractmethod
    def die(self) -> None:
        """One death, and alive again."""

    @abstractmethod
    def stop(self) -> None: ...


class DaemonVictim(Victim):
    """Now and then it is killed before it is ready."""

    def __init__(self, daemon: Daemon, deaths: int, pause: tuple[float, float], rng: random.Random) -> None:
        self._daemon = daemon
        super().__init__(daemon.program, deaths, pause, rng)

    def start(self) -> None:
        self._daemon.start()

    def die(self) -> None:
        self._daemon.kill()
        if self._random.random() < 0.2:
            self._daemon.launch()
            time.sleep(self._random.uniform(0.0, 0.4))
            self._daemon.kill()
            self.died += 1
        self._daemon.start()

    def stop(self) -> None:
        try:
            self._daemon.close()
        except DaemonFailed as error:
            self.error = self.error or error


class ServerVictim(Victim):
    def __init__(
        self,
        server: PrivateMariaDB,
        prepare: Callable[[], None],
        deaths: int,
        pause: tuple[float, float],
        rng: random.Random,
    ) -> None:
        self._server = server
        self._prepare = prepare
        super().__init__("mariadbd", deaths, pause, rng)

    def start(self) -> None:
        self._server.start()
        self._prepare()

    def die(self) -> None:
        self._server.kill()
        self._server.start()

    def stop(self) -> None:
        self._server.stop()


class LinkVictim(Victim):
    """Dying is being cut, for a moment, in one of the ways of networks."""

    def __init__(self, link: Link, deaths: int, pause: tuple[float, float], rng: random.Random) -> None:
        self._link = link
        super().__init__("network", deaths, pause, rng)

    def start(self) -> None:
        return

    def die(self) -> None:
        self._link.set(self._random.choice(PARTITIONS))
        time.sleep(self._random.uniform(0.1, 1.0))
        self._link.set("open")

    def stop(self) -> None:
        self._link.close()
