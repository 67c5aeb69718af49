"""The wire contract: what a sender may say about a job. Parsed here, once, at the edge; trusted inside.

Absent (UNSET) is not zero: an absent field means "unchanged". Unknown fields are ignored, because older hubs
must survive newer senders. Nothing here does I/O. docs/api.md is the same contract in prose.
"""

import datetime
import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

MAX_BODY_BYTES = 1 << 20
"""Largest HTTP request body, in bytes (413 beyond it)."""
MAX_LINE_BYTES = 64 << 10
"""Largest line on the local socket, in bytes, its newline included."""
MAX_JOB_ID = 64
"""Characters in a job id: the width of `backup_jobs.id`."""
MAX_AMOUNT = 2**63 - 1
"""What a BIGINT holds."""
MAX_DISKS = 1024
"""Disks of a job: four times what the largest virtual machine has. Each costs the hub some 10 us in every update."""
MAX_SEQ = 2**62
"""Half of what a BIGINT holds, the year 148,000 in microseconds. Nonsense like 2^63-1 is refused and not stored, so
that above a stored number there is room to go on."""
MAX_ERROR_CHARACTERS = 16_000
"""What of an error text is kept: four bytes a character still fit the 65,535 bytes of a TEXT column."""
MAX_CODE_CHARACTERS = 100
"""What of an error code is kept: it stands behind the message and must not push it out."""
MAX_ETA_SECONDS = 2**31 - 1
"""`backup_jobs.eta_seconds` is an INT; anything longer is stored as this."""

MAX_REASON_CHARACTERS = 300
"""Of the reason for a refusal: it quotes what was sent, which may be a mebibyte."""

JobStatus = Literal["pending", "running", "completed", "failed", "cancelled"]
DiskStatus = Literal["pending", "transferring", "running", "completed", "failed"]
FINAL: frozenset[str] = frozenset({"completed", "failed", "cancelled"})
"""The statuses that end a job. Only a job's own status ends it."""

JobId = Annotated[str, Meta(min_length=1, max_length=MAX_JOB_ID)]
Amount = Annotated[int, Meta(ge=0, le=MAX_AMOUNT)]
"""Bytes, or bytes per second."""
Percent = Annotated[float, Meta(ge=0)]
"""Over 100 is legal on the wire (an incremental can move more than was planned) and is stored as 100."""
Seconds = Annotated[float, Meta(ge=0)]
Timestamp = Annotated[datetime.datetime, Meta(tz=True)]
"""RFC 3339 with its offset."""


class ErrorInfo(Struct, frozen=True, omit_defaults=True):
    message: str
    code: str | int | None = None
    timestamp: str | None = None

    def text(self) -> str:
        """The message, with the code in brackets behind it when there is one; at most MAX_ERROR_CHARACTERS."""
        tail = "" if self.code in (None, "") else f" [{str(self.code)[:MAX_CODE_CHARACTERS]}]"
        return self.message[: MAX_ERROR_CHARACTERS - len(tail)] + tail


class DiskReport(Struct, frozen=True, kw_only=True, omit_defaults=True):
    disk_index: Annotated[int, Meta(ge=0, le=65535)]
    status: DiskStatus | UnsetType = UNSET
    bytes_transferred: Amount | UnsetType = UNSET
    total_bytes: Amount | UnsetType = UNSET
    progress_percent: Percent | UnsetType = UNSET


class Report(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the socket and the hub both take: every field may be absent, and absent means unchanged."""

    job_id: JobId | UnsetType = UNSET
    job_type: str | UnsetType = UNSET
    status: JobStatus | UnsetType = UNSET
    current_phase: Annotated[str, Meta(max_length=50)] | UnsetType = UNSET
    bytes_transferred: Amount | UnsetType = UNSET
    total_bytes: Amount | UnsetType = UNSET
    transfer_speed_bps: Amount | UnsetType = UNSET
    eta_seconds: Annotated[int, Meta(ge=0)] | UnsetType = UNSET
    progress_percent: Percent | UnsetType = UNSET
    disks: Annotated[tuple[DiskReport, ...], Meta(max_length=MAX_DISKS)] | UnsetType = UNSET
    error: ErrorInfo | UnsetType | None = UNSET
    timestamp: Timestamp | UnsetType = UNSET
    seq: Annotated[int, Meta(ge=1, le=MAX_SEQ)] | UnsetType = UNSET
    age_seconds: Seconds | UnsetType = UNSET
    idle_seconds: Seconds | UnsetType = UNSET

    def __post_init__(self) -> None:
        if self.disks is not UNSET and len(self.disks) > 1:
            indices = [disk.disk_index for disk in self.disks]
            if len(set(indices)) != len(indices):
                raise ValueError("`disks` names a `disk_index` more than once; each may appear once in a message")


class Update(Report, frozen=True, kw_only=True, omit_defaults=True):
    """One message to the hub: a report whose job status is always said."""

    status: JobStatus


class AttachedDisks(Struct, frozen=True):
    """This process answers for `disks` of a job that has `of` of them."""

    disks: Annotated[tuple[Annotated[int, Meta(ge=0, le=65535)], ...], Meta(min_length=1)]
    of: Annotated[int, Meta(ge=1, le=65536)]


class Line(Report, frozen=True, kw_only=True, omit_defaults=True):
    """One line on the local socket: a report, and the three fields that exist only there."""

    ack: str | int | UnsetType = UNSET
    attach: bool | AttachedDisks | UnsetType = UNSET
    hello: int | UnsetType = UNSET


class ProgressLine(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """A line that says how far a job is and nothing else: the fields of Report that can only be superseded.

    Nearly all lines are such. What is not looked for costs nothing: this is decoded in half the time of a Line.
    """

    job_id: JobId | UnsetType = UNSET
    bytes_transferred: Amount | UnsetType = UNSET
    total_bytes: Amount | UnsetType = UNSET
    transfer_speed_bps: Amount | UnsetType = UNSET
    eta_seconds: Annotated[int, Meta(ge=0)] | UnsetType = UNSET
    progress_percent: Percent | UnsetType = UNSET
    disks: Annotated[tuple[DiskReport, ...], Meta(max_length=MAX_DISKS)] | UnsetType = UNSET


class ContractError(ValueError):
    """The bytes are not a valid message; its text names the field and what was expected, fit for the sender.

    At most MAX_REASON_CHARACTERS, whatever of the message it quotes.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason if len(reason) <= MAX_REASON_CHARACTERS else f"{reason[: MAX_REASON_CHARACTERS - 1]}…")


_updates = msgspec.json.Decoder(Update)
_lines = msgspec.json.Decoder(Line)
_progress = msgspec.json.Decoder(ProgressLine)


def decode_update(body: bytes | memoryview | msgspec.Raw) -> Update:
    """The body of a POST. Raises ContractError; never anything else, whatever the bytes."""
    update: Update = decoded(_updates, body)
    return update


def decode_line(line: bytes | bytearray | memoryview) -> Line:
    """One line of the socket, without its newline. Raises ContractError; never anything else."""
    said: Line = decoded(_lines, line)
    return said


def decode_progress(line: bytes) -> ProgressLine | None:
    """One line of the socket if it is a ProgressLine. None if it says more or is not valid: decode_line tells.

    Whether its disks are named once each is for the caller to see.
    """
    try:
        said: ProgressLine = _progress.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return said


def decoded(decoder: msgspec.json.Decoder[Any], data: bytes | bytearray | memoryview | msgspec.Raw) -> Any:
    """What `decoder` makes of the bytes. Raises ContractError; never anything else."""
    try:
        return decoder.decode(data)
    except msgspec.ValidationError as error:
        raise ContractError(_explain(str(error))) from None
    except msgspec.DecodeError as error:
        reason = str(error) if memoryview(data) else "it is empty"
        raise ContractError(f"not valid JSON: {reason}") from None
    except UnicodeDecodeError as error:
        raise ContractError(f"not valid JSON: not UTF-8 at byte {error.start}") from None
    except RecursionError:
        raise ContractError("not valid JSON: nested too deeply") from None


def _explain(problem: str) -> str:
    """msgspec names the field but, for a status, not what was expected; the sender needs both."""
    if not problem.startswith("Invalid enum value"):
        return problem
    said, _, where = problem.rpartition(" - at `")
    expected = get_args(DiskStatus if "disks[" in where else JobStatus)
    return f"{said[:100]} - at `{where}; expected one of {', '.join(expected)}"


def encode(message: Struct) -> bytes:
    """JSON bytes; absent fields are left out."""
    return msgspec.json.encode(message)


def percent(done: int, total: int) -> float | UnsetType:
    """Percent of `total`, two decimals, or UNSET where the total is unknown (0).

    Rounded down, so that only a finished copy shows 100.
    """
    if total <= 0:
        return UNSET
    return min(100.0, math.floor(done * 10_000 / total) / 100)


def disk_bytes(disks: Sequence[DiskReport]) -> int:
    """Bytes transferred over all disks, an absent figure counting as 0."""
    return sum(0 if disk.bytes_transferred is UNSET else disk.bytes_transferred for disk in disks)
