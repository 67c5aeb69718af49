"""What the outbox's in-memory twin writes to, and what a disk can do to it."""

from collections.abc import Callable

from sbc_daemon.message import Message
from sbc_daemon.outbox import DeadLetter, Entry, JobRecord

_Undo = Callable[[], None]


class MemoryDisk:
    """Outlives the outbox as a file does: `power_cut` takes back what was not synced, whole transactions from the end.

    `failure` makes every write fail with that text. `syncs` and `renumberings` count what costs a real disk.
    """

    def __init__(self) -> None:
        self.records: dict[str, JobRecord] = {}
        self.lanes: dict[str, dict[int, Entry]] = {}
        self.letters: dict[int, DeadLetter] = {}
        self.buried: dict[int, Message] = {}
        self.survivors: dict[str, bytes] = {}
        self.ceiling = 0
        self.last_id = 0
        self.used_bytes = 0
        self.held = False
        self.failure: str | None = None
        self.syncs = 0
        self.renumberings = 0
        self._unsynced: list[list[_Undo]] = []
        self._changes: list[_Undo] = []

    @property
    def unsynced(self) -> int:
        """Transactions that a power cut could take back."""
        return len(self._unsynced)

    def changed(self, undo: _Undo) -> None:
        """Within a transaction, which `committed` or `synced` ends."""
        self._changes.append(undo)

    def committed(self) -> None:
        """The transaction is written, as far as this process can tell."""
        if self._changes:
            self._unsynced.append(self._changes)
            self._changes = []

    def synced(self) -> None:
        """It is on the disk, with all that was written before."""
        self._changes = []
        self._unsynced.clear()
        self.syncs += 1

    def power_cut(self, kept: int = 0) -> None:
        """The machine lost power: the holder is gone, and so is what was never synced, but for the first `kept`."""
        for transaction in reversed(self._unsynced[kept:]):
            for undo in reversed(transaction):
                undo()
        self._unsynced.clear()
        self.held = False
