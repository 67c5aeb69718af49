"""A virtual machine's disks: raw images with data, zeros and holes, served over NBD at a limited rate.

The same seed makes the same bytes, quickly: pieces of one block of noise, each stamped with its place, so that a copy
with two pieces swapped or one missing differs from its source.
"""

import random
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Literal
from urllib.parse import quote

from msgspec import Struct

MIB = 1 << 20
Kind = Literal["data", "zeros", "hole"]

_SHARES: tuple[tuple[Kind, int], ...] = (("data", 76), ("zeros", 10), ("hole", 14))
"""Of a hundred runs, how many are which: about what a file system in use looks like."""
_LONGEST_RUN = 24
"""Pieces (MiB)."""
_BURST_SECONDS = 2.0
"""nbdkit's rate filter starts with this much saved up, which arrives at once."""
_START_SECONDS = 10.0


class DiskFailed(Exception):
    """An image could not be served; the text ends with what nbdkit said."""


class Image(Struct, frozen=True):
    """`stored_bytes` is what a copy has to read: data and written zeros, not the holes."""

    path: Path
    size: int
    stored_bytes: int


def make_image(path: Path, pieces: int, seed: int) -> Image:
    """A raw image of `pieces` MiB: runs of noise, of zeros that are written, and of holes that are not."""
    rng = random.Random(seed)
    noise = rng.randbytes(2 * MIB)
    stored = 0
    with path.open("wb") as image:
        image.truncate(pieces * MIB)
        for place, kind in enumerate(_layout(rng, pieces)):
            if kind == "hole":
                continue
            image.seek(place * MIB)
            image.write(_piece(noise, place) if kind == "data" else bytes(MIB))
            stored += MIB
    return Image(path, pieces * MIB, stored)


def _layout(rng: random.Random, pieces: int) -> list[Kind]:
    """What each MiB is. The first is data, as the boot sector of a disk is; the end is whatever comes."""
    kinds, shares = zip(*_SHARES, strict=True)
    layout: list[Kind] = ["data"]
    while len(layout) < pieces:
        layout += rng.choices(kinds, shares) * rng.randint(1, _LONGEST_RUN)
    return layout[:pieces]


def _piece(noise: bytes, place: int) -> bytes:
    start = (place * 7919) % MIB
    stamp = place.to_bytes(8, "big")
    return stamp + noise[start + 8 : start + MIB - 8] + stamp


def first_difference(one: Path, other: Path) -> int | None:
    """Offset of the first byte in which two files differ (the shorter one's end included); None if they are equal."""
    offset = 0
    with one.open("rb") as left, other.open("rb") as right:
        while True:
            a, b = left.read(MIB), right.read(MIB)
            if a != b:
                return offset + _where(a, b)
            if not a:
                return None
            offset += len(a)


def _where(a: bytes, b: bytes) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


class Served:
    """`with Served(image, socket, seconds) as disk:` offers `image` read-only at `disk.uri`, by nbdkit.

    The rate is such that reading all that is stored takes about `seconds`. The server dies with the process
    that started it.
    """

    def __init__(self, image: Image, socket: Path, seconds: float) -> None:
        self.image = image
        self.uri = f"nbd+unix:///?socket={quote(str(socket))}"
        self._socket = socket
        self._ready = socket.with_suffix(".pid")
        self._log = socket.with_suffix(".log")
        self._bits_per_second = int(image.stored_bytes * 8 / (seconds + _BURST_SECONDS))
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Served":
        for leftover in (self._socket, self._ready):
            leftover.unlink(missing_ok=True)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0
            )
        try:
            self._wait_until_it_serves(self._process)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _command(self) -> list[str]:
        return [
            *("nbdkit", "--exit-with-parent", "--readonly", f"--unix={self._socket}", f"--pidfile={self._ready}"),
            *("--filter=rate", "file", str(self.image.path), f"rate={self._bits_per_second}"),
        ]

    def _wait_until_it_serves(self, process: subprocess.Popen[bytes]) -> None:
        """nbdkit writes its pid file when it accepts connections, and offers no event for it."""
        deadline = time.monotonic() + _START_SECONDS
        while not self._ready.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise DiskFailed(f"cannot serve {self.image.path}: {self._log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.01)
