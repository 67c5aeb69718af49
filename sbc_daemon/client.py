"""Report a backup job to the sidecar from Python. Needs nothing beyond the standard library.

    with Job("backup-vm1-1", total_bytes=size) as job:
        job.phase("transferring")
        for copied in copy():
            job.progress(copied)

Leaving the block reports completed, an exception in it reports failed with its text. No call ever raises because of
the sidecar, and only `done`, `fail` and `close` wait, for at most their `timeout` seconds. The sidecar may be absent,
stopped, slow or restarted: the newest figures and the state changes in order are kept and said when it is back, an
end also after the call that said it has returned False.

In asyncio call `progress`, `phase` and the others as they are, and `await asyncio.to_thread(job.done)`.

One background thread per job does all the talking. After a fork the parent goes on reporting; in the child the
object is silent (make another `Job` there). Every method may be called from any thread.
"""

from collections.abc import Mapping, Sequence
from operator import index
from types import TracebackType

from sbc_daemon.client_talk import Talk
from sbc_daemon.client_wire import Fields, merged, socket_path

MAX_ERROR_CHARACTERS = 8_000
MAX_JOB_ID = 64
MAX_PHASE = 50
MAX_AMOUNT = 2**63 - 1
MAX_DISK = 65_535


class Job:
    """One run of a backup, reported by this process. Raises TypeError or ValueError for wrong arguments only."""

    def __init__(
        self,
        job_id: str,
        *,
        total_bytes: int | None = None,
        disks: Mapping[int, int] | None = None,
        phase: str | None = None,
        attach: bool = True,
        attach_disks: tuple[Sequence[int], int] | None = None,
        path: str | None = None,
    ) -> None:
        """Announce the job as running. `disks` gives the total bytes of each disk by its index.

        `attach`: the job fails when this process ends without having said how it went. `attach_disks=([0], 2)`: this
        process answers for disk 0 of a job with two; `done` and `fail` then end its disks, and the job ends with
        the last of them. `path` is the socket (default: SBC_SOCKET, else the usual place).
        """
        self._job_id = _text(job_id, "job_id", MAX_JOB_ID)
        if not job_id:
            raise ValueError("job_id must not be empty")
        self._own_disks = [_disk(number) for number in attach_disks[0]] if attach_disks else []
        self._attach: object = attach
        if attach_disks:
            self._attach = {"disks": self._own_disks, "of": _count(attach_disks[1], self._own_disks)}
        self._newest: dict[int | None, int] = {}
        self._percents: dict[int | None, float] = {}
        self._talk = Talk(self._job_id, self._attach, self._figures, socket_path(path))
        self._ended = False
        self._say(_opening(total_bytes, disks or {}, phase, self._own_disks))
        self._talk.start()

    def progress(self, bytes_transferred: int, disk: int | None = None) -> None:
        """So many bytes are done, of the job or of one disk. Only stores the value: under 2 us, never waits."""
        value = index(bytes_transferred)
        if not 0 <= value <= MAX_AMOUNT:
            raise ValueError(f"bytes_transferred must be 0 to 2^63-1, not {value}")
        self._newest[disk if disk is None else _disk(disk)] = value

    def percent(self, value: float, disk: int | None = None) -> None:
        """For work whose size in bytes is unknown: so many percent are done. Only stores the value."""
        if not 0 <= value < float("inf"):
            raise ValueError(f"percent must be a number from 0 up, not {value}")
        self._percents[disk if disk is None else _disk(disk)] = round(float(value), 2)

    def total(self, total_bytes: int, disk: int | None = None) -> None:
        """The size of the whole, or of one disk, is now known."""
        said = {"total_bytes": _amount(total_bytes, "total_bytes")}
        self._say(said if disk is None else {"disks": {_disk(disk): said}})

    def phase(self, name: str) -> None:
        """The job is now in this phase (snapshot, transferring, finalizing are the usual ones; up to 50 characters)."""
        self._say({"current_phase": _text(name, "phase", MAX_PHASE)})

    def disk(self, number: int, status: str) -> None:
        """The status of one disk: pending, transferring, completed or failed."""
        if status not in ("pending", "transferring", "running", "completed", "failed"):
            raise ValueError(f"a disk's status cannot be {status!r}")
        self._say({"disks": {_disk(number): {"status": status}}})

    def done(self, timeout: float = 2.0) -> bool:
        """The job (or this process's disks of it) is completed. True once the sidecar has it safe on its disk.

        False: not within `timeout` seconds. It is still said as soon as the sidecar is there, while this process lives;
        `close` waits once more.
        """
        return self._end({"status": "completed"}, {}, timeout)

    def fail(self, message: str, code: str | int | None = None, timeout: float = 2.0) -> bool:
        """The job (or this process's disks of it) failed, with the reason. True and False as of `done`."""
        error: Fields = {"message": str(message)[:MAX_ERROR_CHARACTERS]}
        if code is not None:
            error["code"] = code if type(code) is int else str(code)[:MAX_PHASE]
        return self._end({"status": "failed"}, {"error": error}, timeout)

    def close(self, timeout: float = 2.0) -> bool:
        """Stop reporting without an end. True if the sidecar has confirmed every state change."""
        return self._talk.close(timeout)

    @property
    def connected(self) -> bool:
        """Whether there is a connection to the sidecar at this moment (it may still be stopped or slow)."""
        return self._talk.connected

    @property
    def refused(self) -> str | None:
        """What the sidecar last answered to a state change it did not take, if it ever did so."""
        return self._talk.refused

    def __enter__(self) -> "Job":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        fine = error is None or (isinstance(error, SystemExit) and error.code in (None, 0))
        if self._ended:
            return
        if fine:
            self.done()
        else:
            self.fail(str(error) or type(error).__name__, code=type(error).__name__)

    def _end(self, status: Fields, more: Fields, timeout: float) -> bool:
        if not self._ended:
            self._ended = True
            own = {number: dict(status) for number in self._own_disks}
            self._say({**({"disks": own} if own else status), **more}, final=True)
        return self._talk.close(timeout)

    def _say(self, change: Fields, *, final: bool = False) -> None:
        figures = self._figures()
        self._talk.say(merged(figures, change), figures, final=final)

    def _figures(self) -> Fields:
        """The newest figures. The copies are single steps of the interpreter: `progress` needs no lock."""
        figures: Fields = {}
        disks: dict[int, Fields] = {}
        sources: tuple[tuple[str, Mapping[int | None, float]], ...] = (
            ("bytes_transferred", self._newest.copy()),
            ("progress_percent", self._percents.copy()),
        )
        for name, values in sources:
            for number, value in values.items():
                (figures if number is None else disks.setdefault(number, {}))[name] = value
        return {**figures, "disks": disks} if disks else figures


def _opening(total: int | None, disks: Mapping[int, int], phase: str | None, own_disks: Sequence[int]) -> Fields:
    said: dict[int, Fields] = {number: {"status": "transferring"} for number in own_disks}
    for number, size in disks.items():
        said.setdefault(_disk(number), {})["total_bytes"] = _amount(size, "total_bytes")
    change: Fields = {"status": "running", "disks": said}
    if total is not None:
        change["total_bytes"] = _amount(total, "total_bytes")
    if phase is not None:
        change["current_phase"] = _text(phase, "phase", MAX_PHASE)
    return change


def _amount(value: int, name: str) -> int:
    if not 0 <= index(value) <= MAX_AMOUNT:
        raise ValueError(f"{name} must be 0 to 2^63-1, not {value}")
    return int(value)


def _disk(number: int) -> int:
    if not 0 <= index(number) <= MAX_DISK:
        raise ValueError(f"a disk's index must be 0 to {MAX_DISK}, not {number}")
    return int(number)


def _count(value: int, own: Sequence[int]) -> int:
    if not own or not len(set(own)) <= index(value) <= MAX_DISK + 1:
        raise ValueError(f"attach_disks must name at least one disk and no more than the job has, not {own} of {value}")
    return int(value)


def _text(value: str, name: str, longest: int) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, not {type(value).__name__}")
    if len(value) > longest:
        raise ValueError(f"{name} must have at most {longest} characters, not {len(value)}")
    return value
