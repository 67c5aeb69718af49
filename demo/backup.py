"""One backup: two real nbdcopy, each under `sbc-report run`, in one process group, as one job with two disks."""

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from testbed.disks import Image, Served, first_difference
from testbed.processes import clean_environment, dying_with_us, installed


class Backup:
    """`with Backup(...) as backup:` serves the disks and starts the copies; leaving it ends what still runs.

    Reading the larger disk takes about `seconds`, and the smaller one as long.
    """

    def __init__(self, job_id: str, images: Sequence[Image], directory: Path, seconds: float, socket: str) -> None:
        self.job_id = job_id
        self._images = list(images)
        self._directory = directory
        self._seconds = seconds
        self._environment = clean_environment({"SBC_SOCKET": socket})
        self._copies: list[subprocess.Popen[bytes]] = []
        self._ends: dict[int, tuple[float, int]] = {}
        self._cleanup = ExitStack()
        self._began = 0.0

    def __enter__(self) -> "Backup":
        with ExitStack() as undo:
            undo.callback(self._end)
            disks = [
                undo.enter_context(Served(image, self._directory / f"disk{index}.sock", self._seconds))
                for index, image in enumerate(self._images)
            ]
            self._began = time.monotonic()
            for index, disk in enumerate(disks):
                self._copies.append(self._start(index, disk.uri))
            self._cleanup = undo.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._cleanup.close()

    def command(self, index: int, uri: str) -> list[str]:
        """What an operator would type for one disk."""
        report = ["sbc-report", "run", "--job", self.job_id, "--disk", str(index), "--of", str(len(self._images))]
        return [*report, "--", "nbdcopy", uri, str(self.target(index))]

    def target(self, index: int) -> Path:
        return self._directory / f"{self.job_id}-disk{index}.img"

    def running(self) -> bool:
        """Looks only: an ended copy is kept (as a zombie) until the end, so that its process group's number is not
        given to anybody else while `kill` may still use it."""
        for index, copy in enumerate(self._copies):
            if index not in self._ends and (status := _exit_status(copy.pid)) is not None:
                self._ends[index] = (time.monotonic(), status)
        return len(self._ends) < len(self._copies)

    @property
    def seconds(self) -> float:
        """From the start to the end of its last copy."""
        return max((when for when, _ in self._ends.values()), default=time.monotonic()) - self._began

    @property
    def exit_statuses(self) -> list[int]:
        """Of the copies that `running` saw end, by disk; minus the signal's number where one killed it."""
        return [status for _, (_, status) in sorted(self._ends.items())]

    @property
    def stored_bytes(self) -> int:
        """What had to be read: everything but the holes."""
        return sum(image.stored_bytes for image in self._images)

    def kill(self) -> None:
        """SIGKILL to the whole process group: no reporter and no tool lives to say anything."""
        os.killpg(self._copies[0].pid, signal.SIGKILL)

    def signal_copy(self, index: int, number: signal.Signals) -> None:
        """To the process of one disk alone."""
        self._copies[index].send_signal(number)

    def differences(self) -> list[int | None]:
        """For each disk the offset of the first byte in which its copy differs; None where there is none."""
        return [first_difference(image.path, self.target(index)) for index, image in enumerate(self._images)]

    def _start(self, index: int, uri: str) -> subprocess.Popen[bytes]:
        program, *rest = self.command(index, uri)
        group = self._copies[0].pid if self._copies else 0
        with (self._directory / f"{self.job_id}-disk{index}.log").open("wb") as log:
            return subprocess.Popen(
                dying_with_us([installed(program), *rest]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                process_group=group,
            )

    def _end(self) -> None:
        if self._copies:
            self.kill()
        for index, copy in enumerate(self._copies):
            copy.wait()
            self.target(index).unlink(missing_ok=True)


def _exit_status(pid: int) -> int | None:
    """How a child of ours ended, without reaping it; None while it runs."""
    ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    if ended is None:
        return None
    return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
