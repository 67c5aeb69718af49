"""The references of start and memory: an interpreter that imports aiohttp and nothing else."""

import subprocess
import sys
import time
from collections.abc import Callable

from testbed.processes import clean_environment

_IMPORT = "import aiohttp"
_LOOK = "import aiohttp, pathlib; print(pathlib.Path('/proc/self/status').read_text())"


def seconds_of(what: Callable[[], object]) -> float:
    begun = time.perf_counter()
    what()
    return time.perf_counter() - begun


def import_aiohttp() -> None:
    subprocess.run([sys.executable, "-c", _IMPORT], check=True, env=clean_environment())


def interpreter_mib() -> float:
    """What an interpreter that has imported aiohttp keeps in memory."""
    status = subprocess.run([sys.executable, "-c", _LOOK], check=True, capture_output=True, text=True).stdout
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS:")).split()[1]) / 1024
