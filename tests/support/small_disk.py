"""A file system of a size that is soon full, and one that takes nothing."""

import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class SmallDisk:
    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / "somebody-elses"

    def fill(self) -> None:
        """To the last byte, with a file that is somebody else's."""
        with self._ballast.open("ab", buffering=0) as data, suppress(OSError):
            while data.write(b"x" * 4096):
                pass
        with self._ballast.open("ab", buffering=0) as data, suppress(OSError):
            while data.write(b"x"):
                pass

    def make_room(self) -> None:
        self._ballast.unlink()

    def grow(self, size: str) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", str(self.path)], check=True)


@contextmanager
def small_disk(path: Path, size: str) -> Iterator[SmallDisk | None]:
    """A tmpfs of that size at `path`; None where this user may not mount one."""
    path.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)], capture_output=True)
    if made.returncode != 0:
        yield None
        return
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@contextmanager
def failing_writes() -> Iterator[None]:
    """Every write of this process to a file fails in the kernel (EFBIG): an I/O error to SQLite."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
