"""How large a disk is and how much of a copy is there, from what lies on this machine. Never asks an NBD server."""

import os
import stat
from pathlib import Path

from sbc_daemon.client import MAX_AMOUNT

SECTOR_BYTES = 512
_QCOW2_MAGIC = b"QFI\xfb"
_QCOW2_SIZE = slice(24, 32)
"""Where a qcow2 header holds the virtual size: bytes 24 to 31, big-endian (qemu's docs/interop/qcow2)."""


def raw_size(path: str | None) -> int | None:
    """Bytes of a regular file or a block device; None for everything else and where it cannot be told."""
    found = _look(path)
    if found is None:
        return None
    if stat.S_ISREG(found.st_mode):
        return found.st_size or None
    return _device_size(found.st_rdev) if stat.S_ISBLK(found.st_mode) else None


def image_size(path: str | None, image_format: str | None) -> int | None:
    """The virtual size of a raw or qcow2 image; of one whose format is not given, only if it is qcow2."""
    if path is None or _look(path) is None:
        return None
    if image_format == "raw":
        return raw_size(path)
    return _qcow2_size(path) if image_format in (None, "qcow2") else None


def allocated(path: str | None) -> int | None:
    """Bytes of a regular file that take up room; holes do not."""
    found = _look(path)
    return found.st_blocks * SECTOR_BYTES if found is not None and stat.S_ISREG(found.st_mode) else None


def _look(path: str | None) -> os.stat_result | None:
    try:
        return None if path is None else Path(path).stat()
    except (OSError, ValueError):
        return None


def _device_size(device: int) -> int | None:
    """From sysfs: opening a device can have effects, reading about it has none."""
    try:
        sectors = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/size").read_text()
    except OSError:
        return None
    return int(sectors) * SECTOR_BYTES or None


def _qcow2_size(path: str) -> int | None:
    found = _look(path)
    if found is None or not stat.S_ISREG(found.st_mode):
        return None
    try:
        with Path(path).open("rb") as image:
            header = image.read(_QCOW2_SIZE.stop)
    except OSError:
        return None
    if len(header) < _QCOW2_SIZE.stop or not header.startswith(_QCOW2_MAGIC):
        return None
    size = int.from_bytes(header[_QCOW2_SIZE], "big")
    return size if 0 < size <= MAX_AMOUNT else None  # a damaged header may say anything
