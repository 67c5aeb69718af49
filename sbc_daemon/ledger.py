"""What became of every message that the outbox took, since the start: counts in a balance that always holds. Pure.

`accepted` = `delivered` + `superseded` + `evicted` + `dead` + `lost` + those that wait.

Accepted is what was taken for delivery: what a start found waiting, what was kept (on the disk, or in memory where the
disk refused), and a dead letter that was taken up again. A message that was kept once more is not counted again.
"""

from msgspec import Struct, structs


class Ledger(Struct, kw_only=True):
    """`superseded`: overtaken by newer news of its job before it was delivered. `evicted`: a sample given up for room,
    or the newest of a job that had no room even in memory. `lost`: in a damaged file that was moved aside.
    The last three are what became of dead letters after that.
    """

    accepted: int = 0
    delivered: int = 0
    superseded: int = 0
    evicted: int = 0
    dead: int = 0
    lost: int = 0
    letters_retried: int = 0
    letters_deleted: int = 0
    letters_evicted: int = 0

    @property
    def ends(self) -> dict[str, int]:
        return {
            "delivered": self.delivered,
            "superseded": self.superseded,
            "evicted": self.evicted,
            "dead": self.dead,
            "lost": self.lost,
        }

    @property
    def waiting(self) -> int:
        """What must still be there if every end was counted."""
        return self.accepted - sum(self.ends.values())

    def copy(self) -> "Ledger":
        return structs.replace(self)

    def become(self, other: "Ledger") -> None:
        """Take its counts: what was counted since they were copied did not happen."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(other, name))

    def __add__(self, other: "Ledger") -> "Ledger":
        return Ledger(**{name: getattr(self, name) + getattr(other, name) for name in self.__struct_fields__})

    def found(self, count: int, owed: int) -> None:
        """So many messages are in the file that was opened; of those that were there before, `owed` are delivered."""
        missing = self.waiting - count
        if missing < 0:
            self.accepted -= missing
        else:
            self.delivered += min(missing, owed)
            self.lost += max(0, missing - owed)
