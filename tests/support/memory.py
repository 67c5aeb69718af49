"""What a process holds in memory."""

import os
from pathlib import Path


def resident_bytes(process: str | int) -> int:
    """Of this process (`self`) or that one."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
