"""What outlives this process: descriptors in systemd's store, and in the outbox what belongs to each.

Written late, by one task, without a sync: a record is of use only as long as the kernel keeps the descriptor, and until
it is written nothing has been taken from the connection that it is about (`kept_connection`). So a connection that is
over in a moment, as a script makes one for every line, costs the outbox nothing.
"""

import asyncio
import secrets
from collections.abc import Callable, Collection, Mapping, Set
from contextlib import suppress
from functools import partial
from typing import Literal, Protocol

from sbc_daemon.descriptor_store import DescriptorStore
from sbc_daemon.outbox import Outbox, OutboxFull

LATE_SECONDS = 0.1
"""Between a change and its record, unless there is a hurry."""
MAX_RECORD_BYTES = 128 << 10
"""A longer one is not written: 1,536 of them must not fill the outbox."""

Kind = Literal["connection", "process"]
KINDS: tuple[Kind, ...] = ("connection", "process")


class Owner(Protocol):
    """Whom a descriptor belongs to."""

    def record(self) -> bytes | None:
        """What is to be kept, as of now; None when it cannot be said now (`keep` is called again then)."""

    def recorded(self) -> None:
        """The last `record` is kept, or cannot be."""


class Survivors:
    """`when_written` calls back once everything taken in so far is in the outbox. `records` is what an earlier daemon
    left there. Without a store nothing is kept."""

    def __init__(
        self,
        outbox: Outbox,
        store: DescriptorStore | None,
        when_written: Callable[[Callable[[], None]], None],
        records: Mapping[str, bytes],
    ) -> None:
        self._outbox = outbox
        self._store = store
        self._when_written = when_written
        self._owners: dict[str, Owner] = {}
        self._found = dict(records)
        self._on_disk = set(records)
        self._gone: set[str] = set()
        self._waiting: list[Callable[[], None]] = []
        self._writing = False
        self._woken = asyncio.Event()
        self._hurried = asyncio.Event()

    @property
    def possible(self) -> bool:
        """Whether anything can outlive this process."""
        return self._store is not None and self._store.capacity > 0

    @property
    def lagging(self) -> bool:
        """The store does not take more for now: what is still to come had better wait a moment."""
        return self._store is not None and self._store.lagging

    def found(self, name: str) -> bytes | None:
        """What an earlier daemon wrote down of the descriptor."""
        return self._found.get(name)

    def settle(self, taken_up: Collection[str]) -> None:
        """These are all that have come back; what is known of others is of no use any more."""
        self._gone |= self._on_disk - set(taken_up)
        self._found.clear()
        self._woken.set()

    def put(self, kind: Kind, descriptor: int) -> str | None:
        """Have it kept; the name it has from now on, None where it is not."""
        name = f"{kind}-{secrets.token_hex(8)}"
        return name if self._store is not None and self._store.put(name, descriptor) else None

    def waits(self, name: str) -> bool:
        """Whether the descriptor is still on its way into the store, and must stay open for that."""
        return self._store is not None and self._store.waits(name) and self._store.lagging

    def leave(self, name: str) -> None:
        """This process closes its own copy."""
        if self._store is not None:
            self._store.give_up(name)

    def keep(self, name: str, owner: Owner) -> None:
        """What belongs to the descriptor has changed: write it down soon."""
        self._owners[name] = owner
        self._woken.set()

    def hurry(self) -> None:
        self._hurried.set()

    def when_recorded(self, callback: Callable[[], None]) -> None:
        """Call back once all records are kept as they must be now, or cannot be."""
        self._waiting.append(callback)
        self._woken.set()
        self._hurried.set()

    def release(self, name: str) -> None:
        """It is over. Once what it led to is on the disk, neither systemd nor the outbox needs to know of it."""
        self._owners.pop(name, None)
        self._when_written(partial(self._forget, name))

    def _forget(self, name: str) -> None:
        if self._store is not None:
            self._store.remove(name)
        if name in self._on_disk or self._writing:
            self._gone.add(name)
            self._woken.set()

    async def run(self) -> None:
        """For ever: write what has changed."""
        while True:
            await self._woken.wait()
            with suppress(TimeoutError):
                async with asyncio.timeout(LATE_SECONDS):
                    await self._hurried.wait()
            await self.write()

    async def write(self) -> None:
        """Everything that can be said now is in the outbox when this returns, or cannot be."""
        self._woken.clear()
        self._hurried.clear()
        owners, self._owners = self._owners, {}
        said = {name: body for name, owner in owners.items() if (body := owner.record()) is not None}
        records = {name: body for name, body in said.items() if len(body) <= MAX_RECORD_BYTES}
        gone, self._gone = self._gone, set()
        waiting, self._waiting = self._waiting, []
        if records or gone:
            await self._remember(records, gone)
        for name in said:
            owners[name].recorded()
        for tell in waiting:
            tell()

    async def _remember(self, records: Mapping[str, bytes], gone: Set[str]) -> None:
        self._writing = True
        try:
            await self._outbox.remember(records, gone)
            self._on_disk = (self._on_disk | records.keys()) - gone
        except OutboxFull:
            self._gone |= gone  # with the next change
        finally:
            self._writing = False
