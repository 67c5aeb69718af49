"""What is printed: headings, findings, tables, and the live view of a job, redrawn in place on a terminal.

Where standard output is no terminal, the live view is a line every few seconds. 80 columns are enough.
"""

import os
import sys
import time
from collections.abc import Sequence

from demo.checks import Result
from demo.hub_view import JobNow, Row
from telemetry_common.text import duration, printable, size

WIDTH = 78
BAR = 30
LINE_SECONDS = 3.0
MIB = 1 << 20
_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
_STATUS_COLOURS = {"completed": "green", "failed": "red", "running": "cyan"}


class Screen:
    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._colour = self._terminal and "NO_COLOR" not in os.environ
        self._fancy = "utf" in (sys.stdout.encoding or "").lower()
        self._began = time.monotonic()

    def title(self, text: str, more: str) -> None:
        self.line()
        self.line(f"{self._paint('bold', text)}  {self._paint('dim', more)}")

    def heading(self, text: str, expected: str) -> None:
        """A scene or step begins; `expected` says how long it will take."""
        dot = "·" if self._fancy else "-"
        clock = f"{duration(time.monotonic() - self._began)} in"
        timing = f"about {expected} {dot} {clock}" if expected else clock
        rule = "─" if self._fancy else "-"
        self.line()
        self.line(self._paint("dim", rule * WIDTH))
        self.line(self._paint("bold", text) + self._paint("dim", f"{timing:>{WIDTH - len(text)}}"))
        self.line()

    def step(self, text: str, figure: str = "") -> None:
        self.line(f"  {text:<58.58}{self._paint('dim', f'{figure:>18}')}".rstrip() if figure else f"  {text}")

    def note(self, text: str) -> None:
        self.line(self._paint("dim", f"  {text}"))

    def result(self, result: Result) -> None:
        """One checked claim with its figure."""
        self.line(f"  {self._mark(result.true)} {result.text:<41} {self._paint('dim', result.figure)}")

    def rows(self, job_id: str, job: Row, disks: Sequence[Row]) -> None:
        """The rows as MariaDB has them."""
        self.note(f"{'in MariaDB':<28}{'status':<12}{'percent':>10}{'bytes_transferred':>22}")
        self._row(f"backup_jobs  {job_id}", job)
        for disk in disks:
            self._row(f"backup_disks disk {disk.disk_index}", disk)
        self._row("sum over backup_disks", None, sum(disk.bytes_transferred for disk in disks))
        self.line()

    def table(self, results: Sequence[Result]) -> None:
        scene = -1
        for result in results:
            label = f"scene {result.scene}" if result.scene else "the end"
            shown = label if result.scene != scene else ""
            scene = result.scene
            figure = self._paint("dim", result.figure)
            self.line(f"  {shown:<8} {self._mark(result.true)} {result.text:<41} {figure}")

    def verdict(self, good: bool, text: str) -> None:
        self.line()
        self.line("  " + self._paint("green" if good else "red", self._paint("bold", text)))
        self.line()

    def trouble(self, text: str) -> None:
        """Why it ended early; on standard error."""
        print(text, file=sys.stderr, flush=True)

    def line(self, text: str = "") -> None:
        print(text, flush=True)

    def live(self) -> "Live":
        return Live(self, in_place=self._terminal)

    def status(self, status: str, width: int) -> str:
        return self._paint(_STATUS_COLOURS.get(status, "yellow"), f"{printable(status):<{width}.{width}}")

    def bar(self, percent: float) -> str:
        halves = round(max(0.0, min(100.0, percent)) / 100 * BAR * 2)
        whole, half = divmod(halves, 2)
        done, tip, rest = ("━", "╸", "─") if self._fancy else ("#", "+", ".")
        drawn = done * whole + tip * half
        return self._paint("cyan", drawn) + self._paint("dim", rest * (BAR - len(drawn)))

    def dim(self, text: str) -> str:
        return self._paint("dim", text)

    def _row(self, name: str, row: Row | None, count: int = 0) -> None:
        if row is None:
            self.line(f"  {name:<50}{count:>22,}")
            return
        self.line(f"  {name:<28}{self.status(row.status, 12)}{row.percent:>10.2f}{row.bytes_transferred:>22,}")

    def _mark(self, true: bool) -> str:
        good, bad = ("✓", "✗") if self._fancy else ("ok", "NO")
        return self._paint("green", good) if true else self._paint("red", bad)

    def _paint(self, colour: str, text: str) -> str:
        return f"\x1b[{_CODES[colour]}m{text}\x1b[0m" if self._colour and text else text


class Live:
    """The live view: `with screen.live() as live: live.show(job, note)`, as often as one likes."""

    def __init__(self, screen: Screen, *, in_place: bool) -> None:
        self._screen = screen
        self._in_place = in_place
        self._began = time.monotonic()
        self._drawn = 0
        self._bars: list[str] = []
        self._last_line = -LINE_SECONDS

    def __enter__(self) -> "Live":
        if self._in_place:
            print("\x1b[?25l", end="", flush=True)
        return self

    def __exit__(self, *failure: object) -> None:
        if self._in_place:
            print("\x1b[?25h", end="", flush=True)
        self._screen.line()

    def show(self, job: JobNow | None, note: str, *, last: bool = False) -> None:
        """Draw the job as the hub sees it; None: the hub does not answer. `last`: this one must be seen."""
        if self._in_place:
            self._redraw(self._frame(job, note))
        elif last or time.monotonic() - self._last_line >= LINE_SECONDS:
            self._last_line = time.monotonic()
            self._screen.line(self._one_line(job, note))

    def _redraw(self, frame: list[str]) -> None:
        up = f"\x1b[{self._drawn}F" if self._drawn else ""
        print(up + "".join(f"{line}\x1b[K\n" for line in frame) + "\x1b[J", end="", flush=True)
        self._drawn = len(frame)

    def _frame(self, job: JobNow | None, note: str) -> list[str]:
        if job is None:
            bars = self._bars or [""] * 3
            return ["  the hub does not answer; the last that it showed:", *bars, "", self._note(note)]
        heard = "" if job.seconds_since_heard is None else f"last report {job.seconds_since_heard:.0f} s ago"
        phase = printable(job.current_phase or "")
        top = f"  {job.job_id:<22.22} {self._screen.status(job.status, 10)} {phase:<22.22}{heard:>21}"
        bars = [
            self._bar(f"disk {disk.disk_index}", disk.progress_percent, disk.bytes_transferred, disk.total_bytes)
            for disk in job.disks
        ]
        whole = self._bar("job", job.progress_percent, job.bytes_transferred, job.total_bytes)
        self._bars = [*(bars + [""] * 2)[:2], whole]
        return [top, *self._bars, f"  {'':<8}{_speed(job):<40}", self._note(note)]

    def _bar(self, name: str, percent: float, done: int, total: int) -> str:
        figures = f"{done // MIB:>5} of {total // MIB:>5} MiB" if total else f"{done // MIB:>5} MiB"
        return f"  {name:<8}{self._screen.bar(percent)} {percent:6.1f} %  {figures:>19}"

    def _note(self, note: str) -> str:
        seconds = time.monotonic() - self._began
        return self._screen.dim(f"  {seconds:4.0f} s  {note}")

    def _one_line(self, job: JobNow | None, note: str) -> str:
        seconds = f"  {time.monotonic() - self._began:3.0f} s"
        if job is None:
            return f"{seconds}  the hub does not answer  {note}".rstrip()
        disks = ", ".join(f"disk {disk.disk_index} {disk.progress_percent:3.0f} %" for disk in job.disks)
        heard = "" if job.seconds_since_heard is None else f"  heard {job.seconds_since_heard:.0f}s ago"
        return f"{seconds}  {printable(job.status):<9} {disks}  {_speed(job)}{heard}"


def _speed(job: JobNow) -> str:
    speed = f"{size(job.transfer_speed_bps)}/s" if job.transfer_speed_bps else ""
    eta = f"ETA {duration(job.eta_seconds)}" if job.eta_seconds and job.status == "running" else ""
    return "  ".join(part for part in (speed, eta) if part)
