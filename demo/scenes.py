"""The scenes: a backup seen live, one that is killed, one while the hub is away. Each claim is checked."""

import time
from collections.abc import Callable

from demo.backup import Backup
from demo.checks import Checks, Claim
from demo.hub_view import JobNow, Row
from demo.screen import Live, Screen
from demo.stage import DISKS_MIB, Stage
from telemetry_common.contract import FINAL

LOOK_SECONDS = 0.1
WHOLE_SECONDS = 24.0
"""How long the first and the third backup take: nbdkit's rate is set for it."""
KILLED_SECONDS = 12.0
"""How long the second would take if it were left alone."""
KILL_AT_PERCENT = 45.0
DEATH_SECONDS = 2.0
"""Within this the hub must show a killed backup as failed."""
AWAY_AT_PERCENT = 8.0
AWAY_SECONDS = 15.0
CATCH_UP_SECONDS = 40.0
"""The sidecar's longest pause between two attempts is 30 s."""
SAME_SPEED = 0.10
"""Two runs of the same backup may differ by this part."""


class Scenes:
    def __init__(self, stage: Stage, screen: Screen, checks: Checks) -> None:
        self._stage = stage
        self._screen = screen
        self._checks = checks
        self._undisturbed_seconds = WHOLE_SECONDS

    def seen_live(self) -> None:
        """Two disks at once, one job, watched over the hub's API; then copies and rows are compared."""
        job_id = "backup-web1-1"
        self._create(job_id)
        seen: list[JobNow] = []
        with self._stage.backup(job_id, WHOLE_SECONDS) as backup:
            self._show_command(backup)
            with self._screen.live() as live:
                self._follow(live, backup, lambda: "two nbdcopy at work; a report every 5 s and every 10 points", seen)
                job = self._wait_for(job_id, lambda job: job.status in FINAL, 5.0)
                live.show(job, "both have ended", last=True)
            self._undisturbed_seconds = backup.seconds
            self._check_seen(seen)
            self._check_exits("copies end well", backup)
            self._check_copies("copies are equal", backup)
        self._check_rows(job_id, "rows complete", "bytes are the sum")

    def killed(self) -> None:
        """SIGKILL to a whole backup half-way: nobody is left to report it, and the hub knows all the same."""
        job_id = "backup-web1-2"
        self._create(job_id)
        with self._stage.backup(job_id, KILLED_SECONDS) as backup, self._screen.live() as live:
            self._follow(
                live, backup, lambda: f"to be killed at {KILL_AT_PERCENT:.0f} %", until=_above(KILL_AT_PERCENT)
            )
            killed = backup.running()
            backup.kill()
            at = time.monotonic()
            job = self._wait_for(job_id, lambda job: job.status in FINAL, 5 * DEATH_SECONDS)
            seconds = time.monotonic() - at
            live.show(job, f"SIGKILL to the process group; the hub knew {seconds:.2f} s later", last=True)
        self._check_death(job, seconds, killed)

    def hub_away(self) -> None:
        """The hub is stopped in the middle for a while: no backup waits for it, and no news is lost."""
        job_id = "backup-web1-3"
        self._create(job_id)
        with self._stage.backup(job_id, WHOLE_SECONDS) as backup:
            with self._screen.live() as live:
                self._follow(live, backup, lambda: "the hub will be stopped soon", until=_above(AWAY_AT_PERCENT))
                away = self._stop_the_hub_for_a_while(live, backup)
                back = time.monotonic()
                self._follow(live, backup, lambda: "the hub is back")
                job = self._wait_for(job_id, lambda job: job.status in FINAL, CATCH_UP_SECONDS)
                caught_up = f"{time.monotonic() - back:.1f} s after its return"
                live.show(job, f"the hub had all of it {caught_up}", last=True)
            self._check("hub was away", away >= AWAY_SECONDS, f"{away:.1f} s, copies running")
            self._check_exits("backup unmoved", backup)
            self._check_speed(backup)
            self._check_copies("second copies equal", backup)
        self._check_rows(job_id, "hub caught up", "bytes are the sum again", caught_up)

    def _create(self, job_id: str) -> None:
        disks = str(len(DISKS_MIB))
        self._stage.shactl("job", "create", job_id, "--vm", "web1", "--disks", disks)
        self._screen.note(f"$ shactl job create {job_id} --vm web1 --disks {disks}")

    def _show_command(self, backup: Backup) -> None:
        self._screen.note(f"$ sbc-report run --job {backup.job_id} --disk 0 --of 2 \\")
        self._screen.note("      -- nbdcopy nbd+unix:///?socket=disk0.sock disk0.img")
        self._screen.note("  ... and the same with --disk 1, both at once")
        self._screen.line()

    def _follow(
        self,
        live: Live,
        backup: Backup,
        note: Callable[[], str],
        seen: list[JobNow] | None = None,
        until: Callable[[JobNow], bool] = lambda job: False,
    ) -> None:
        """Show the job while the backup runs, or until the hub shows what is waited for."""
        while backup.running():
            job = self._stage.reader.job(backup.job_id)
            live.show(job, note())
            if job is not None and seen is not None:
                seen.append(job)
            if job is not None and until(job):
                return
            time.sleep(LOOK_SECONDS)

    def _stop_the_hub_for_a_while(self, live: Live, backup: Backup) -> float:
        """Seconds for which no hub was there while the backup ran."""
        began = time.monotonic()
        self._stage.hub.stop()
        end = time.monotonic() + AWAY_SECONDS
        self._follow_until(live, backup, end)
        still_running = backup.running()
        away = time.monotonic() - began
        self._stage.hub.start()
        return away if still_running else 0.0

    def _follow_until(self, live: Live, backup: Backup, end: float) -> None:
        while (left := end - time.monotonic()) > 0:
            live.show(self._stage.reader.job(backup.job_id), f"the hub is stopped; it comes back in {left:.0f} s")
            time.sleep(min(LOOK_SECONDS, left))

    def _wait_for(self, job_id: str, wanted: Callable[[JobNow], bool], seconds: float) -> JobNow | None:
        """The job as the hub shows it once it is as wanted, or as it is when the time is over."""
        deadline = time.monotonic() + seconds
        while True:
            job = self._stage.reader.job(job_id)
            if (job is not None and wanted(job)) or time.monotonic() > deadline:
                return job
            time.sleep(0.02)

    def _check(self, claim: Claim, true: bool, figure: str) -> None:
        self._screen.result(self._checks.check(claim, true, figure))

    def _check_seen(self, seen: list[JobNow]) -> None:
        """Live means: each disk was seen in the middle of its way, with a speed, and no report was old."""
        figures = {job.bytes_transferred for job in seen if 0 < job.progress_percent < 100}
        both = all(
            any(0 < disk.progress_percent < 100 for job in seen for disk in job.disks if disk.disk_index == index)
            for index in range(len(DISKS_MIB))
        )
        oldest = max((job.seconds_since_heard or 0 for job in seen), default=0)
        quick = any(job.transfer_speed_bps for job in seen)
        true = len(figures) >= 4 and both and quick and oldest <= 7
        self._check("seen live", true, f"{len(figures)} looks, up to {oldest:.0f} s old")

    def _check_exits(self, claim: Claim, backup: Backup) -> None:
        statuses = backup.exit_statuses
        shown = ", ".join(map(str, statuses))
        self._check(claim, statuses == [0] * len(DISKS_MIB), f"{shown} after {backup.seconds:.1f} s")

    def _check_copies(self, claim: Claim, backup: Backup) -> None:
        found = backup.differences()
        different = [f"disk {index} at {where}" for index, where in enumerate(found) if where is not None]
        sizes = " + ".join(f"{pieces}" for pieces in DISKS_MIB)
        self._check(claim, not different, "differ: " + ", ".join(different) if different else f"{sizes} MiB")

    def _check_rows(self, job_id: str, complete: Claim, sums: Claim, figure: str = "") -> None:
        job, disks = self._stage.rows(job_id)
        total = sum(disk.bytes_transferred for disk in disks)
        self._screen.line()
        self._screen.rows(job_id, job, disks)
        whole = len(disks) == len(DISKS_MIB) and all(_whole(row) for row in [job, *disks])
        self._check(complete, whole, figure or f"1 job, {len(disks)} disks")
        self._check(sums, job.bytes_transferred == total > 0, f"{job.bytes_transferred:,}")

    def _check_death(self, job: JobNow | None, seconds: float, was_running: bool) -> None:
        failed = job is not None and job.status == "failed" and was_running
        reason = (job.error_message or "") if job is not None else ""
        self._check("death noticed", failed and seconds <= DEATH_SECONDS, f"{seconds:.2f} s")
        self._screen.note(f"  error_message: {reason}")
        self._check("death explained", "ended without reporting an outcome" in reason, "see above")
        states = [disk.status for disk in job.disks] if job is not None else []
        self._check("disks failed", states == ["failed"] * len(DISKS_MIB), ", ".join(states))

    def _check_speed(self, backup: Backup) -> None:
        """The same disks at the same rate, once with the hub there and once without."""
        before, now = self._undisturbed_seconds, backup.seconds
        megabytes = backup.stored_bytes / 1e6
        figure = f"{megabytes / now:.1f} MB/s, before {megabytes / before:.1f}"
        self._check("backup as fast", now <= before * (1 + SAME_SPEED), figure)


def _above(percent: float) -> Callable[[JobNow], bool]:
    return lambda job: job.progress_percent >= percent


def _whole(row: Row) -> bool:
    return row.status == "completed" and row.percent == 100.0
