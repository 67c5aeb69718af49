"""Jobs that were heard although the database could not write it down: the watchdog spares them.

A row that another program holds, a row that the server refuses, a disk that is full: what a sender says is then
answered 500 or 503 and is not in the tables. Its job is audible all the same: no silence of it may be counted from
before. This lives in memory, as long as the hub that heard it.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable

MAX_REMEMBERED = 10_000
"""Jobs, those forgotten first that were heard the longest ago: as many as one sweep looks at."""


class Unwritten:
    """Of one kind of job; shared by its writers and its watchdog."""

    def __init__(self) -> None:
        self._heard_us: OrderedDict[str, int] = OrderedDict()
        self.under_way: list[Callable[[str], bool]] = []
        """Of each writer: whether an update of the job is on its way into the tables, which may take long."""

    def heard(self, job_ids: Iterable[str], reading_us: int) -> None:
        """These jobs were heard when the listening clock read `reading_us`."""
        for job_id in job_ids:
            self._heard_us[job_id] = reading_us
            self._heard_us.move_to_end(job_id)
        while len(self._heard_us) > MAX_REMEMBERED:
            self._heard_us.popitem(last=False)

    def is_under_way(self, job_id: str) -> bool:
        """Whether the job was heard just now, and the tables are about to know of it."""
        return any(has(job_id) for has in self.under_way)

    def later_of(self, job_id: str, heard_us: int) -> int:
        """The reading at which the job was last heard, where the tables say `heard_us`."""
        return max(heard_us, self._heard_us.get(job_id, heard_us))

    def among(self, found: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
        """Those of these (job, reading in the tables) that were heard later than that, with the later reading."""
        if not self._heard_us:
            return []
        later = ((job_id, heard_us, self.later_of(job_id, heard_us)) for job_id, heard_us in found)
        return [(job_id, reading_us) for job_id, heard_us, reading_us in later if reading_us > heard_us]
