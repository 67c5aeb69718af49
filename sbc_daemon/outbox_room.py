"""How the outbox uses its room: what is sent and given up in which order, and who may use how much. No I/O."""

from collections.abc import Iterable, Mapping, Sequence

from sbc_daemon.message import Kind, Message
from sbc_daemon.outbox import Entry, First, JobRecord, OutboxFull
from telemetry_common.clock import Moment, age_seconds
from telemetry_common.contract import encode
from telemetry_common.text import size

RANK: dict[Kind, int] = {"state": 0, "progress": 1, "sample": 2}
"""The order in which a job's messages leave; room is made from the other end."""
SAMPLE_EVERY_SECONDS = 60.0
"""While the hub is away one point a minute is enough for the charts."""
MAX_SAMPLES = 512
"""Of one job: as many as a chart shows. So the outbox grows with the number of jobs and not with the outage."""
_SPAN_SHARE = 1 / 360
"""Of the time that a job's samples cover: closer they need not be. With every second one given up at MAX_SAMPLES (which
this share has happen each time that the outage has doubled) they stay evenly apart, the old and the new."""
ENDED_RECORDS = 4096
"""Ended jobs that are remembered, so that a line after the end is refused also after a restart."""
RUNNING_RECORDS = 20_000
"""Jobs that never ended; beyond it those not heard of for longest are forgotten."""
DEAD_LETTERS_SHARE = 0.25
"""Of the cap; beyond it the oldest dead letter goes, so that refused messages cannot crowd out living ones."""
_SHARE_OF_NEW_JOBS = 0.80
_SHARE_OF_KNOWN_JOBS = 0.90
"""The rest is the reserve for ends."""


def worth_a_sample(replaced: Moment, first_sample: Moment | None, last_sample: Moment | None) -> bool:
    """Whether progress that is being replaced undelivered stays as a sample, beside the job's first and last one."""
    if first_sample is None or last_sample is None:
        return True
    apart = max(SAMPLE_EVERY_SECONDS, age_seconds(first_sample, replaced) * _SPAN_SHARE)
    return age_seconds(last_sample, replaced) >= apart


def cost_bytes(body: int) -> int:
    """At least what a row with a body of so many bytes takes on the disk, indexes and page filling included."""
    return body + body // 4 + 200


def may_use_bytes(messages: Sequence[Message], known_jobs: set[str], cap: int) -> int:
    """How full the outbox may become for these messages: a job's end may use all of it, a new job least.

    Of several jobs the one that may use least decides: none gets into the reserve in the company of another's end.
    """
    shares = dict.fromkeys((message.job_id for message in messages), _SHARE_OF_NEW_JOBS)
    for message in messages:
        if message.final:
            shares[message.job_id] = 1.0
        elif message.kind == "state" and message.job_id in known_jobs:
            shares[message.job_id] = max(shares[message.job_id], _SHARE_OF_KNOWN_JOBS)
    return int(cap * min(shares.values(), default=_SHARE_OF_NEW_JOBS))


def needed_bytes(bodies: Sequence[bytes], records: Sequence[JobRecord]) -> int:
    return sum(cost_bytes(len(body)) for body in bodies) + sum(cost_bytes(len(record.snapshot)) for record in records)


def survivors_may_use_bytes(cap: int) -> int:
    """How full the outbox may become for what belongs to descriptors: no fuller than for a new job."""
    return int(cap * _SHARE_OF_NEW_JOBS)


def survivors_bytes(survivors: Mapping[str, bytes]) -> int:
    return sum(cost_bytes(len(record)) for record in survivors.values())


def bounded(firsts: Iterable[First], max_bytes: int) -> list[First]:
    """As many of these, in their order, as stay below `max_bytes` together; at least one."""
    found: list[First] = []
    left = max_bytes
    for first in firsts:
        left -= len(encode(first.message)) if isinstance(first, Entry) else 0
        if left < 0 and found:
            break
        found.append(first)
    return found


def at_the_cap(cap: int) -> OutboxFull:
    return OutboxFull(
        f"cannot keep the message: the outbox is at its cap of {size(cap)}; it empties when the hub answers, "
        "or raise outbox.max_bytes"
    )
