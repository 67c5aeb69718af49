"""The promises, checked against the truth: at every commit, at every verdict, and when everything has arrived.

Each has a name, the one that a violation is reported under.
"""

from collections.abc import Mapping

from sha_daemon.records import Job, JobView, Sample
from simulation.database import Client, Server
from simulation.endings import missing
from simulation.ground import Ground
from simulation.network import Exchange
from simulation.promises import AUDIBLE, BACKWARDS, DATED, DEAD, INPUT_500, LOST, OVERWRITTEN, UNFOUNDED
from simulation.transport import Response, answers
from simulation.truth import End, JobTruth, Sending

FAIL_SECONDS = 300.0
SWEEP_SECONDS = 30.0
DATED_WITHIN_SECONDS = 5.0
_SLACK_SECONDS = 20.0
"""The listening clock is written down every 5 s, and a sweep takes its time."""


class Judge:
    def __init__(self, ground: Ground, server: Server) -> None:
        self._loop = ground.loop
        self._truth = ground.truth
        self._story = ground.story
        self._server = server
        self.checks = 0
        server.observers.append(self._committed)

    def answered(self, exchange: Exchange, response: Response) -> None:
        """By a hub, to a message of one job or to a batch."""
        for job_id, answered in zip(exchange.job_ids, answers(response), strict=True):
            if answered.status == 500 and not self._server.harms(job_id):
                self._story.violate(INPUT_500, job_id, "and the database had nothing against it")

    def _committed(self, before: Mapping[str, JobView | None], samples: list[Sample], by: Client | None) -> None:
        for job_id, view in before.items():
            self.checks += 1
            job = self._server.tables.jobs[job_id].job
            self._story.note("stored", job_id, _brief(job))
            if by is not None and view is not None:
                self._changed(view.job, job, by)
        for sample in samples:
            if sample.seq is not None and sample.seq not in self._truth.job(sample.job_id).true_at:
                self._story.violate(UNFOUNDED, sample.job_id, f"a sample with seq {sample.seq}")

    def _changed(self, before: Job, after: Job, by: Client) -> None:
        truth = self._truth.job(after.job_id)
        self._backwards(before, after, truth)
        self._unfounded(before, after, truth)
        if _is_final(before) and (before.status, before.completed_at) != (after.status, after.completed_at):
            self._story.violate(OVERWRITTEN, after.job_id, f"{before.status} became {after.status}")
        if after.heard_us is not None and (before.heard_us is None or after.heard_us > before.heard_us):
            truth.heard_for_good = max(truth.heard_for_good, truth.heard_by.get(by.realm, 0.0))
        if after.watchdog_failed_at is not None and before.watchdog_failed_at is None:
            self._verdict(after, truth, by)
        elif _is_final(after) and not _is_final(before):
            self._dated(after, truth, by)

    def _backwards(self, before: Job, after: Job, truth: JobTruth) -> None:
        for what, was, now in (
            ("seq", before.seq or 0, after.seq or 0),
            ("bytes", before.bytes_transferred, after.bytes_transferred),
        ):
            if now < was:
                self._story.violate(BACKWARDS, after.job_id, f"{what} from {was} to {now}")
        if before.started_at is not None and after.started_at != before.started_at:
            self._story.violate(BACKWARDS, after.job_id, f"its start from {before.started_at} to {after.started_at}")
        self._phase(before, after, truth)
        if after.progress_percent < before.progress_percent and after.total_bytes <= before.total_bytes:
            self._story.violate(BACKWARDS, after.job_id, f"percent to {after.progress_percent}")
        disks = {disk.disk_index: disk.bytes_transferred for disk in after.disks}
        for disk in before.disks:
            if disks.get(disk.disk_index, 0) < disk.bytes_transferred:
                self._story.violate(BACKWARDS, after.job_id, f"bytes of disk {disk.disk_index}")

    def _phase(self, before: Job, after: Job, truth: JobTruth) -> None:
        """Phases are stored in the order in which they were said. Not each has to be: the seq of a later one may win.

        A sidecar that died before it could write down a delivery says its last states once more; what comes behind
        them sets it right.
        """
        phase, lives = after.current_phase, self._truth.lives
        if phase == before.current_phase or phase not in truth.sayings:
            return
        same = truth.phase_stored_in_life == lives and not truth.numbered_anew
        truth.phase_stored_in_life = lives
        if phase in truth.sayings[truth.stored_saying :]:
            truth.stored_saying = truth.sayings.index(phase, truth.stored_saying)
        elif same:
            self._story.violate(BACKWARDS, truth.job_id, f"phase from {before.current_phase} to {phase}")
        else:
            truth.stored_saying = truth.sayings.index(phase)

    def _unfounded(self, before: Job, after: Job, truth: JobTruth) -> None:
        if after.bytes_transferred > truth.most_bytes:
            self._story.violate(UNFOUNDED, after.job_id, f"{after.bytes_transferred} bytes")
        if after.current_phase != before.current_phase and after.current_phase not in truth.phases:
            self._story.violate(UNFOUNDED, after.job_id, f"phase {after.current_phase}")
        if _is_final(after) and not _is_final(before) and not truth.may_be(after.status):
            self._story.violate(UNFOUNDED, after.job_id, f"status {after.status}")

    def _verdict(self, job: Job, truth: JobTruth, by: Client) -> None:
        """By the watchdog. Whoever was heard may be failed only when somebody could have heard them for 300 s since."""
        self._story.note("failed by the watchdog", job.job_id)
        silence = self._truth.ears.sharp - max(truth.heard_for_good, truth.heard_by.get(by.realm, 0.0))
        if truth.heard_at is not None and silence < FAIL_SECONDS - 1.0:
            self._story.violate(AUDIBLE, job.job_id, f"after {silence:.1f} s of listening")

    def _dated(self, job: Job, truth: JobTruth, by: Client) -> None:
        """The hub's clock is what the end is dated by; it is judged as that clock stands now."""
        ends = [end for end in truth.ends if end.status == job.status]
        sendings = [sending for sending in truth.sendings if sending.seq == job.seq]
        if job.completed_at is None or not ends or not sendings or self._truth.ears.stepped_lately:
            return
        allowed = DATED_WITHIN_SECONDS + 1.0 + max(truth.transits, default=0.0)
        here = by.clock.wall() - self._loop.now
        off = min(abs(job.completed_at - here - _told(end, sending)) for end in ends for sending in sendings)
        if off > allowed:
            self._story.violate(DATED, job.job_id, f"{off:.1f} s off, by the hub's clock")

    def look_for_the_dead(self) -> None:
        """Now and then: jobs that nobody has been heard of for longer than it may take to notice."""
        dull = self._truth.ears.dull
        for view in self._server.tables.jobs.values():
            job, truth = view.job, self._truth.job(view.job.job_id)
            heard = truth.heard_at is not None and job.heard_us is not None
            if job.status != "running" or not heard or self._server.grips(job.job_id):
                continue
            silence = dull - truth.heard_by_dull
            if silence > FAIL_SECONDS + SWEEP_SECONDS + _SLACK_SECONDS:
                self._story.violate(DEAD, job.job_id, f"after {silence:.1f} s of listening without a disturbance")

    def everything_is_there(self) -> None:
        """When nothing waits any more."""
        for job_id, truth in self._truth.jobs.items():
            view = self._server.tables.jobs.get(job_id)
            if view is None or truth.cancelled:
                continue
            latest = next((change.phase for change in reversed(truth.acknowledged) if change.phase), "")
            if latest and _place(view.job, truth) < truth.phases.index(latest):
                self._story.violate(LOST, job_id, f"phase {latest}: it is {view.job.current_phase}")
            told = {sample.current_phase for sample in self._server.tables.history.get(job_id, {}).values()}
            for change in truth.acknowledged:
                if change.phase and change.phase not in told:
                    self._story.violate(LOST, job_id, f"phase {change.phase}")
                if change.end and view.job.status != change.end:
                    self._story.violate(LOST, job_id, f"its end: {change.end}, it is {view.job.status}")
                elif change.end:
                    for what in missing(view.job, change):
                        self._story.violate(LOST, job_id, what)
            if truth.forsaken and view.job.status == "running":
                self._story.violate(DEAD, job_id, "it still runs")


def _brief(job: Job) -> tuple[object, ...]:
    return (job.status, job.current_phase, job.bytes_transferred, job.seq, job.heard_us, job.error_message)


def _is_final(job: Job) -> bool:
    """Ended, and not by a verdict of the watchdog that can be taken back."""
    if job.status in ("completed", "cancelled"):
        return True
    return job.status == "failed" and (job.watchdog_failed_at is None or job.error_message != job.watchdog_message)


def _told(end: End, sending: Sending) -> float:
    """When that was, as far as the client can know: across a reboot of it by its wall clock, which may be stepped."""
    if end.boot == sending.boot:
        return end.at
    return min(sending.at, end.at + end.stepped - sending.stepped)


def _place(job: Job, truth: JobTruth) -> int:
    """Of the phase among all that were said; -1 for one that was not."""
    return truth.phases.index(job.current_phase) if job.current_phase in truth.phases else -1
