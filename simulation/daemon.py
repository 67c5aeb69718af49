"""A daemon of the world: started, stopped as systemctl does it, killed as kill -9 does it."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable

from simulation.ground import Ground
from simulation.realm import Realm


class Silence:
    """Instead of systemd, which wants nothing but to listen."""

    def notify(self, state: str) -> None: ...


class Daemon(ABC):
    """`on_death` is called when it has ended without having been asked to, with the reason."""

    def __init__(self, ground: Ground, name: str, on_death: Callable[[str], None]) -> None:
        self.loop = ground.loop
        self.name = name
        self._faults = ground.faults
        self._story = ground.story
        self._truth = ground.truth
        self._on_death = on_death
        self._realm: Realm | None = None
        self._stop = asyncio.Event()

    @abstractmethod
    async def _serve(self, realm: Realm) -> None:
        """What its `main` does, in its order, until `_stop` is set."""

    @abstractmethod
    def _gone(self) -> None:
        """Its process is no more: whoever was connected to it learns of that."""

    @property
    def up(self) -> bool:
        return self._realm is not None

    def start(self) -> None:
        """Nothing, if it runs."""
        if self._realm is not None:
            return
        self._story.note(f"{self.name} starts")
        self._realm = Realm(self.name)
        self._stop = asyncio.Event()
        self.loop.spawn(self._life(self._realm), self.name, self._realm)

    async def kill(self, within_steps: int = 0) -> None:
        """At once, or in the midst of its work, when it has taken so many steps more. Not in a healed world."""
        if self._realm is not None and within_steps:
            await self.loop.doom(self._realm, within_steps)
            if self._faults.healed:
                return
        realm, self._realm = self._realm, None
        self._gone()
        if realm is not None:
            await realm.kill()

    async def stop(self) -> None:
        """Returns when it has ended."""
        realm = self._realm
        self._stop.set()
        while self._realm is realm and realm is not None:
            await asyncio.sleep(0.05)

    async def _life(self, realm: Realm) -> None:
        try:
            await self._serve(realm)
        except Exception as error:
            if realm.alive:
                self._on_death(f"{self.name} died of {error!r}")
        realm.over.set()
        if self._realm is realm:
            self._realm = None
            self._gone()
            self._story.note(f"{self.name} has stopped")
