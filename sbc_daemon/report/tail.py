"""The file a wrapped tool writes its progress to. It cannot fill, break or block the tool, whatever becomes of us."""

import fcntl
import os

READ_BYTES = 64 << 10
KEEP_BYTES = 1 << 20
"""A file of hints is emptied beyond this: `nbdcopy --synchronous` writes a line for each request of a huge disk."""
LOWEST_DESCRIPTOR = 10
"""Never 0 to 2, also when those are closed: nothing may take our file for its output."""


class ProgressFile:
    """A regular file without a name (it lives in memory, so a full or read-only /tmp does not matter).

    The tool inherits it. A pipe would be simpler and wrong: its writer stalls when nobody reads it, and dies when the
    reader has died.
    """

    def __init__(self) -> None:
        """Raises OSError where the kernel refuses."""
        made = os.memfd_create("sbc-report-progress")
        try:
            self.descriptor = fcntl.fcntl(made, fcntl.F_DUPFD_CLOEXEC, LOWEST_DESCRIPTOR)
        finally:
            os.close(made)
        flags = fcntl.fcntl(self.descriptor, fcntl.F_GETFL)
        fcntl.fcntl(self.descriptor, fcntl.F_SETFL, flags | os.O_APPEND)
        self._read = 0

    def new_bytes(self) -> bytes:
        """What was written since the last call, up to 64 KiB of it; empty when there is nothing new."""
        data = os.pread(self.descriptor, READ_BYTES, self._read)
        self._read += len(data)
        return data

    def drop_what_was_read(self) -> None:
        """Empty the file when it has grown large. What is written in this very moment may be lost: only for hints."""
        if self._read > KEEP_BYTES:
            os.ftruncate(self.descriptor, 0)
            self._read = 0

    def close(self) -> None:
        os.close(self.descriptor)
