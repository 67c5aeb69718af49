"""Lines that a daemon which was killed may have taken in, and its successor reads again. Pure.

Bytes leave the kernel only after what they say is safe, so a kill in between has them read twice. Nearly all of them
change nothing the second time; but what follows a job's end is refused, and it must not be told so to who was heard.
"""

from sbc_daemon.tracker import ending_of
from telemetry_common.contract import AttachedDisks, JobStatus, Line


def may_have_been_taken(line: Line, share: AttachedDisks | None, ended: JobStatus) -> bool:
    """Whether `line`, about a job that has ended so, may be what came before that end, or the end itself.

    The end of a share is the end of its disks: the job may have ended otherwise.
    """
    return share is not None or ending_of(line) in (None, ended)
