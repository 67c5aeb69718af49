"""One producer's connection, without its socket: bytes in, lines to the intake, answers out.

A bad line costs nobody but itself: it is counted, complained about at most once a minute, answered if it had an `ack`
that could be read. `job_id` stays the last one named, also by a bad line: what follows is meant for that job or none.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator

import msgspec
from msgspec import UNSET, Struct, UnsetType

from sbc_daemon import foreign
from sbc_daemon.attachments import Attachments
from sbc_daemon.complaints import Complaints
from sbc_daemon.framing import LineSplitter, OverLong
from sbc_daemon.intake import Intake
from sbc_daemon.processes import Peer
from sbc_daemon.replay import may_have_been_taken
from sbc_daemon.survivor_records import ConnectionRecord
from sbc_daemon.tracker import JobEnded, LineRefused
from telemetry_common import __version__
from telemetry_common.contract import (
    MAX_JOB_ID,
    MAX_LINE_BYTES,
    AttachedDisks,
    ContractError,
    JobStatus,
    Line,
    ProgressLine,
    decode_line,
    decode_progress,
)
from telemetry_common.logs import fields

log = logging.getLogger(__name__)

PROTOCOL = 1
MAX_DESCRIPTORS = 1
"""Descriptors that wait for the rest of their line: as many as a line can use. Further ones are closed, so that a few
hundred connections cannot take all descriptors of the daemon."""
LINES_AT_ONCE = 64
"""Lines that are taken apart together."""
MAX_LONG_WAY = 64
"""Lines of one connection in one turn of the loop that may be more than progress. Such a line costs 3 to 40 us (a bad
one, a change of state), so that whatever one producer sends, all others have their turn within some milliseconds."""
MAX_UNWRITTEN = 64
"""States and acks of one connection in one write to the outbox: a write that takes long delays everybody's acks."""
MAX_JOBS_LOGGED = 1024
"""Jobs of one connection whose sender is known to have been logged, and whose shares are remembered."""
_TOO_LONG = f"longer than {MAX_LINE_BYTES} bytes"


class _Salvage(Struct):
    """What can still be read of a line that is otherwise wrong."""

    ack: object = UNSET
    job_id: object = UNSET

    def usable_ack(self) -> str | int | UnsetType:
        return self.ack if isinstance(self.ack, str | int) and not isinstance(self.ack, bool) else UNSET


_salvage = msgspec.json.Decoder(_Salvage)


class Conversation:
    """`write` takes answers and never blocks. Feed it from one thread, the event loop's."""

    def __init__(
        self, intake: Intake, attachments: Attachments, peer: Peer, bad: Complaints, write: Callable[[bytes], None]
    ) -> None:
        self.unanswered = 0
        """Acks taken and not yet answered: a half-closed connection stays open for them."""
        self.job_id: str | None = None
        """The last one named."""
        self.attached = 0
        """How often `attach` was said."""
        self.replaying = False
        """What is fed now may have been taken in already by a daemon that was killed: see `replay`."""
        self._intake = intake
        self._attachments = attachments
        self._peer = peer
        self._bad = bad
        self._write = write
        self._splitter = LineSplitter()
        self._unwritten = 0
        self._turn = 0
        self._shares: dict[str, AttachedDisks | None] = {}
        self._seen: set[str] = set()
        self._descriptors: deque[int] = deque()
        attachments.connected(peer.pid)

    @property
    def behind(self) -> bool:
        """Lines wait for their turn: call `go_on` before more is fed."""
        return self._splitter.more

    @property
    def held_bytes(self) -> int:
        """Bytes at the end of what was fed that are not taken in yet: lines that wait, and the beginning of one."""
        return self._splitter.held_bytes

    def record(self, job_id: str | None, *, with_half: bool) -> ConnectionRecord:
        """What a later daemon must know to go on behind a line that named this job, and with the line that has begun if
        that cannot be read again."""
        return ConnectionRecord(job_id, dict(self._shares), self._splitter.held if with_half else b"")

    def take_up(self, record: ConnectionRecord) -> None:
        """Go on where an earlier daemon was."""
        self.job_id = record.job_id
        self._shares = dict(record.shares)
        self._splitter.add(record.half)
        self.go_on()

    def feed(self, data: bytes, descriptors: Iterable[int] = ()) -> None:
        """What was read, with the descriptors that came along; as much of it as a turn has room for is taken in."""
        self._splitter.add(data)
        self._descriptors.extend(descriptors)
        self.go_on()

    def go_on(self) -> None:
        """Take in lines until none waits, MAX_LONG_WAY of them took the long way (then others have their turn), or too
        much waits for the disk."""
        self._take_in(MAX_LONG_WAY)

    def catch_up(self) -> None:
        """Take in all that was fed, whoever else waits."""
        self._take_in(None)

    def finish(self) -> None:
        """The producer has said all."""
        self.catch_up()
        self._take_all(self._splitter.finish())
        self._intake.settle()

    @property
    def ahead_of_disk(self) -> bool:
        """The next write has enough of it: feed nothing more before then."""
        return self._unwritten >= MAX_UNWRITTEN and self._turn == self._intake.turns

    def close(self) -> None:
        """The connection is gone."""
        self._close_descriptors(0)
        self._attachments.disconnected(self._peer.pid)

    def answer(self, ack: str | int, error: str | None, ended: JobStatus | None = None) -> None:
        """The line with this `ack` is safe on disk, or is not, and why.

        `ended` is how the job ended, where that is why: who never heard of its end, and says it again, learns it so.
        """
        self.unanswered -= 1
        said = {"ack": ack, "ok": True} if error is None else {"ack": ack, "ok": False, "error": error}
        more = {} if ended is None else {"ended": ended}
        self._write(msgspec.json.encode({**said, **more}) + b"\n")

    def _take_in(self, most_long_way: int | None) -> None:
        long_way = 0
        while self._splitter.more and (
            most_long_way is None or (long_way < most_long_way and not self._intake.crowded)
        ):
            long_way += self._take_some(self._splitter.take(LINES_AT_ONCE))
        self._intake.settle()
        if not self._splitter.more:
            self._close_descriptors(MAX_DESCRIPTORS)

    def _take_some(self, lines: list[bytes]) -> int:
        """How many took the long way. Descriptors belong to the last line of what was read: a line is sent with its
        descriptor in one piece, and reading stops behind it."""
        if not self._descriptors:
            return self._take_all(lines)
        last = 0 if self._splitter.more or self._splitter.unfinished else 1
        waiting, self._descriptors = self._descriptors, deque()
        long_way = self._take_all(lines[: len(lines) - last])
        self._descriptors = waiting
        if last and lines:
            long_way += self._take_all(lines[-1:])
            self._close_descriptors(0)
        return long_way

    def _take_all(self, lines: list[bytes]) -> int:
        progress = list(map(decode_progress, lines))
        place = long_way = 0
        while place < len(lines):
            taken = self._take_progress(progress, place)
            if not taken:
                self._take_one(lines[place])
                long_way += 1
            place += taken or 1
        return long_way

    def _take_progress(self, progress: list[ProgressLine | None], start: int) -> int:
        """The short way, for the lines from `start` on that only say how far one job is. Returns how many took it."""
        first = progress[start]
        if first is None:
            return 0
        job_id = self.job_id if first.job_id is UNSET else first.job_id
        if job_id is None or job_id not in self._seen:
            return 0
        self.job_id = job_id
        return self._intake.accept_progress(job_id, _about(job_id, progress[start:]))

    def _take_one(self, raw: bytes) -> None:
        if isinstance(raw, OverLong):
            self._complain(_TOO_LONG)
            return
        try:
            self._take(decode_line(raw))
        except (ContractError, LineRefused) as problem:
            self._refuse(raw, problem)

    def _take(self, line: Line) -> None:
        if line.hello is not UNSET:
            self._write(msgspec.json.encode({"hello": {"version": __version__, "protocol": PROTOCOL}}) + b"\n")
            if line == Line(hello=line.hello, ack=line.ack):
                self._answer_at_once(line.ack, None)
                return
        job_id = line.job_id
        if job_id is UNSET:
            if self.job_id is None:
                raise LineRefused("cannot tell which job this is about: the first line of a connection needs a job_id")
            job_id = self.job_id
        else:
            self.job_id = job_id
        if line.attach is UNSET or line.attach is False:
            waits = self._intake.accept(job_id, line, self, self._share(job_id))
        else:
            waits = self._take_attaching(job_id, line, None if line.attach is True else line.attach)
        if waits:
            self._count_unwritten()
        if line.ack is not UNSET:
            self.unanswered += 1
        if job_id not in self._seen:
            self._introduce(job_id)

    def _share(self, job_id: str) -> AttachedDisks | None:
        """What this producer answers for: said on this connection, or by its process on another one."""
        if job_id in self._shares:
            return self._shares[job_id]
        return self._attachments.share_of(self._peer.pid, job_id)

    def _take_attaching(self, job_id: str, line: Line, share: AttachedDisks | None) -> bool:
        return self._intake.accept(job_id, line, self, share, lambda: self._attach(job_id, share))

    def _count_unwritten(self) -> None:
        if self._turn != self._intake.turns:
            self._turn, self._unwritten = self._intake.turns, 0
        self._unwritten += 1

    def _attach(self, job_id: str, share: AttachedDisks | None) -> None:
        self.attached += 1
        if len(self._shares) < MAX_JOBS_LOGGED or job_id in self._shares:
            self._shares[job_id] = share
        pidfd = self._descriptors.popleft() if self._descriptors else None
        if self._intake.unfinished(job_id, share):
            self._attachments.attach(job_id, share, self._peer, pidfd)
        elif pidfd is not None:
            foreign.close(pidfd)

    def _introduce(self, job_id: str) -> None:
        """Who reports this job: said once per job and user, since a script may connect for every single line."""
        level = logging.INFO if self._intake.introduces(job_id, self._peer.uid) else logging.DEBUG
        if log.isEnabledFor(level):
            log.log(level, fields("job reported", job=job_id, uid=self._peer.uid, pid=self._peer.pid))
        if len(self._seen) < MAX_JOBS_LOGGED:
            self._seen.add(job_id)

    def _refuse(self, raw: bytes, problem: ContractError | LineRefused) -> None:
        if not raw.strip():
            return
        try:
            rest = _salvage.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            rest = _Salvage()
        if rest.job_id is not UNSET:
            fine = isinstance(rest.job_id, str) and 0 < len(rest.job_id) <= MAX_JOB_ID
            self.job_id = str(rest.job_id) if fine else None
        if self.replaying and isinstance(problem, JobEnded) and self._repeated(raw, problem):
            self._answer_at_once(rest.usable_ack(), None)
            return
        self._complain(str(problem))
        self._answer_at_once(rest.usable_ack(), str(problem), problem.status if isinstance(problem, JobEnded) else None)

    def _repeated(self, raw: bytes, problem: JobEnded) -> bool:
        line = decode_line(raw)
        share = None if self.job_id is None else self._share(self.job_id)
        return may_have_been_taken(line, share, problem.status)

    def _answer_at_once(self, ack: str | int | UnsetType, error: str | None, ended: JobStatus | None = None) -> None:
        if ack is not UNSET:
            self.unanswered += 1
            self.answer(ack, error, ended)

    def _complain(self, reason: str) -> None:
        peer = self._peer
        self._bad.about(
            (peer.uid, peer.pid), "line dropped", job=self.job_id, uid=peer.uid, pid=peer.pid, reason=reason
        )

    def _close_descriptors(self, keep: int) -> None:
        while len(self._descriptors) > keep:
            foreign.close(self._descriptors.pop())


def _about(job_id: str, progress: list[ProgressLine | None]) -> Iterator[ProgressLine]:
    """The first of them, as far as they go on about this job."""
    for said in progress:
        if said is None or (said.job_id is not UNSET and said.job_id != job_id):
            return
        yield said
