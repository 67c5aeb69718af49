"""Negative controls: deliberately broken variants of the daemons, each of which the simulation must catch.

A control puts something in the place of the real thing for as long as a run lasts. What it breaks is mostly what some
respected system has really done to its users.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from simulation import broken_hub, broken_sidecar
from simulation.broken_hub import Patch
from simulation.promises import (
    AUDIBLE,
    BACKWARDS,
    BUSY,
    DATED,
    DEATH_TOLD,
    LOST,
    OVERWRITTEN,
    SAMPLE_DATED,
    SPOKEN_OF,
    STORED,
)
from testbed.memory_disk import MemoryDisk
from testbed.memory_outbox import MemoryOutbox

MakeOutbox = Callable[[int, MemoryDisk], MemoryOutbox]


@dataclass(frozen=True)
class Control:
    """`caught_by`: the invariants that may find it; `seed`: a world of the commit tier in which one of them does."""

    name: str
    seed: str = "storm:0"
    caught_by: tuple[str, ...] = ()
    outbox: MakeOutbox = MemoryOutbox
    patches: Callable[[], list[Patch]] = field(default=list)

    @contextmanager
    def applied(self) -> Iterator[None]:
        with ExitStack() as stack:
            for owner, name, instead in self.patches():
                stack.callback(setattr, owner, name, getattr(owner, name))
                setattr(owner, name, instead)
            yield


NONE = Control("none")
CONTROLS = (
    Control("acknowledged before the sync", "storm:292", (LOST,), broken_sidecar.Unsynced),
    Control("a full lane drops the newest", "storm:3", (LOST,), broken_sidecar.DropsNewest),
    Control("forgotten before the answer", "storm:0", (LOST,), broken_sidecar.ForgetsBeforeTheAnswer),
    Control("progress goes before states", "storm:0", (BACKWARDS, LOST), broken_sidecar.ProgressFirst),
    Control("no guard by seq", "storm:0", (BACKWARDS,), patches=broken_hub.no_seq_guard),
    Control("a 500 is for good", "storm:0", (LOST,), patches=broken_sidecar.refused_for_good),
    Control("attempts are limited", "storm:0", (LOST,), patches=broken_sidecar.retry_budget),
    Control("of states only the latest", "storm:21", (LOST,), patches=broken_sidecar.only_the_latest_state),
    Control("stale means delivered", "storm:200", (LOST,), patches=broken_sidecar.stale_is_delivered),
    Control("answered before the COMMIT", "storm:0", (LOST, STORED), patches=broken_hub.answers_before_the_commit),
    Control("bytes as they are reported", "storm:0", (BACKWARDS,), patches=broken_hub.bytes_as_reported),
    Control(
        "every failure can be taken back",
        "storm:14",
        (OVERWRITTEN,),
        patches=broken_hub.every_failure_is_revocable,
    ),
    Control(
        "the watchdog reads, then writes",
        "storm:74",
        (OVERWRITTEN, AUDIBLE),
        patches=broken_hub.verdict_of_last_sweep,
    ),
    Control("the watchdog counts its own outage", "storm:0", (AUDIBLE,), patches=broken_hub.counts_its_own_outage),
    Control("silence by the wall clock", "storm:0", (AUDIBLE,), patches=broken_hub.silence_by_the_wall_clock),
    Control("deaf while the database is in trouble", "storm:509", (AUDIBLE,), patches=broken_hub.deaf_while_in_trouble),
    Control("old news is told as of now", "storm:3", (DATED,), patches=broken_sidecar.told_as_of_now),
    Control("what lay unread is new", "storm:453", (DATED,), patches=broken_hub.unread_is_new),
    Control("rings for nothing", "storm:4", (BUSY,), patches=broken_sidecar.rings_for_nothing),
    Control("no heartbeats", "storm:0", (SPOKEN_OF,), patches=broken_sidecar.no_heartbeats),
    Control(
        "what waits is told with the next line", "storm:0", (SPOKEN_OF,), patches=broken_sidecar.told_with_the_next_line
    ),
    Control("a death is nobody's affair", "storm:0", (DEATH_TOLD,), patches=broken_sidecar.deaths_are_nobodys_affair),
    Control("each update by itself", "storm:0", (STORED,), patches=broken_hub.each_update_by_itself),
    Control("overtaken leaves no sample", "storm:0", (STORED,), patches=broken_hub.overtaken_leaves_no_sample),
    Control("samples as of receipt", "storm:0", (SAMPLE_DATED,), patches=broken_hub.samples_as_of_receipt),
    Control("begins with every message", "storm:0", (BACKWARDS,), patches=broken_hub.begins_with_every_message),
    Control("ends without its error", "storm:3", (LOST,), patches=broken_hub.ends_without_its_error),
    Control("revived keeps the verdict", "storm:21", (LOST,), patches=broken_hub.revived_keeps_the_verdict),
)
