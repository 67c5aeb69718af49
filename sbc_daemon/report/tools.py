"""What is known of each backup tool: what makes it tell its progress, how to read that, and how large the copy is.

Success is never read here: a tool can print 100 % and fail. A command line that is not understood to the last
option is left alone, and so is one that asks for progress itself: then only life and exit status are reported.
"""

import getopt
import os
import re
from collections.abc import Sequence
from pathlib import PurePath
from typing import Literal

from sbc_daemon.report import sizes

WORK_ITEM_BYTES = 128 << 20
"""nbdcopy counts work in items of this size, and counts an item when it starts (THREAD_WORK_SIZE in its source)."""
NBDCOPY_CONNECTIONS = 4
"""nbdcopy's default for `--connections`, which also bounds its threads."""

Options = dict[str, str]


class Tool:
    """Any command: nothing is added to it, and nothing is known but that it lives and how it ends."""

    wants: Literal["nothing", "descriptor", "stdout"] = "nothing"
    """Where it can be made to write progress: nowhere, to a descriptor named in its arguments, or to its stdout."""

    def __init__(self, command: Sequence[str]) -> None:
        self.original = list(command)
        self.name = PurePath(command[0]).name or command[0]
        self.percent: float | None = None

    def command(self, descriptor: int) -> list[str]:
        """The command line that makes it write progress to `descriptor`."""
        return self.original

    def feed(self, data: bytes, *, ended: bool) -> bytes:
        """Take new progress output; what of it was not ours and belongs on the real stdout."""
        return data

    def total(self, *, ended: bool) -> int | None:
        """Bytes of the whole copy, once they can be told."""
        return None

    def done(self, total: int) -> int | None:
        """Bytes copied so far, as near as can be told without overstating it much."""
        return None if self.percent is None else int(total * self.percent / 100)


class Nbdcopy(Tool):
    """`--progress=FD` makes it write lines like `25/100`. See `likely_bytes` for what they are worth."""

    def __init__(self, command: Sequence[str]) -> None:
        super().__init__(command)
        self._held = b""
        self._in_flight = 0
        self._source: str | None = None
        self._target: str | None = None
        parsed = _parse(_bare(command[1:], "progress", "blkhash"), "C:pR:S:T:vV", _NBDCOPY_LONG)
        if parsed is None:
            return
        options, words = parsed
        sides = _sides(words)
        if len(sides) == 2:
            self._source, self._target = sides
        if not options.keys() & {"-p", "--progress", "--help", "-V", "--version"}:
            self.wants = "descriptor"
        self._in_flight = _items_in_flight(options) * WORK_ITEM_BYTES

    def command(self, descriptor: int) -> list[str]:
        return [self.original[0], f"--progress={descriptor}", *self.original[1:]]

    def feed(self, data: bytes, *, ended: bool) -> bytes:
        lines, newline, rest = (self._held + data).rpartition(b"\n")
        self._held = rest[-8:]
        found = re.findall(rb"^(\d{1,3})/100$", lines + newline, re.MULTILINE)
        if found:
            self.percent = float(found[-1])
        return b""

    def total(self, *, ended: bool) -> int | None:
        """The source's size, else the target's: nbdcopy gives it its full size before the first line of progress."""
        target_is_new = ended or self.percent is not None
        return sizes.raw_size(self._source) or (sizes.raw_size(self._target) if target_is_new else None)

    def done(self, total: int) -> int | None:
        if self.percent is None:
            return None
        return likely_bytes(self.percent, total, self._in_flight, sizes.allocated(self._target))


def likely_bytes(percent: float, total: int, in_flight: int, written: int | None) -> int:
    """nbdcopy's percentage, corrected by what can be seen of its target.

    The percentage counts work that has begun: all of it but `in_flight` bytes is certainly done. What takes up room
    in the target (`written`) is certainly done too, but holes never do. So the greater of the two is a lower bound that
    moves smoothly; some file systems allocate ahead, so it may not pass what the percentage allows. Where the target
    cannot be seen (`written` is None) the percentage is all there is.
    """
    claimed = int(total * percent / 100)
    if written is None:
        return claimed
    most = claimed + in_flight + total // 100
    return min(max(claimed - in_flight, written, 0), most, total)


class QemuImgConvert(Tool):
    """`-p` makes it write `    (12.50/100%)\\r` to its stdout, and a newline at the end. Counts allocated data only."""

    def __init__(self, command: Sequence[str], at: int) -> None:
        super().__init__(command)
        self._at = at
        self._held = b""
        self._sources: list[str] = []
        self._target: str | None = None
        self._source_format: str | None = None
        self._target_format = "raw"
        parsed = _parse(command[at + 1 :], "hf:O:B:CcF:o:l:S:pt:T:nm:WUr:q", _QEMU_LONG)
        if parsed is None:
            return
        options, words = parsed
        self._note_images(options, words)
        uses_stdout = any(_STDOUT.search(word) for word in command)
        if not uses_stdout and not options.keys() & {"-p", "--progress", "-q", "--quiet", "-h", "--help"}:
            self.wants = "stdout"

    def command(self, descriptor: int) -> list[str]:
        return [*self.original[: self._at + 1], "-p", *self.original[self._at + 1 :]]

    def feed(self, data: bytes, *, ended: bool) -> bytes:
        text = self._held + data
        for found in _QEMU_PROGRESS.finditer(text):
            self.percent = float(found[1])
        begun = None if ended else _QEMU_BEGUN.search(text)
        cut = len(text) if begun is None else begun.start()
        self._held = text[cut:]
        return _QEMU_PROGRESS.sub(b"", text[:cut])

    def total(self, *, ended: bool) -> int | None:
        """The sources' size where they are local, else the target's, which exists once progress has moved."""
        known = [sizes.image_size(source, self._source_format) for source in self._sources]
        if known and None not in known:
            return sum(size for size in known if size is not None)
        return sizes.image_size(self._target, self._target_format) if ended or self.percent else None

    def _note_images(self, options: Options, words: list[str]) -> None:
        self._source_format = options.get("-f", options.get("--source-format"))
        self._target_format = options.get("-O", options.get("--target-format", "raw"))
        if len(words) >= 2:
            self._sources = [] if "--image-opts" in options else words[:-1]
            self._target = None if "--target-image-opts" in options else words[-1]


def recognise(command: Sequence[str]) -> Tool:
    """The adapter for this command, by the name of its program; a plain `Tool` for all that have none."""
    name = PurePath(command[0]).name
    if name == "nbdcopy":
        return Nbdcopy(command)
    at = _subcommand(command) if name == "qemu-img" else None
    return QemuImgConvert(command, at) if at is not None and command[at] == "convert" else Tool(command)


_NBDCOPY_LONG = [
    "help",
    "long-options",
    "short-options",
    "version",
    "allocated",
    "blkhash",
    "blkhash-file=",
    "connections=",
    "destination-is-zero",
    "target-is-zero",
    "flush",
    "no-extents",
    "progress",
    "queue-size=",
    "request-size=",
    "requests=",
    "sparse=",
    "synchronous",
    "threads=",
    "verbose",
]
_QEMU_LONG = [
    "help",
    "object=",
    "image-opts",
    "target-image-opts",
    "target-is-zero",
    "bitmaps",
    "skip-broken-bitmaps",
    "salvage",
    "force-share",
    "source-format=",
    "source-cache=",
    "snapshot=",
    "target-format=",
    "target-format-options=",
    "target-cache=",
    "backing=",
    "backing-format=",
    "sparse-size=",
    "no-create",
    "rate-limit=",
    "parallel=",
    "oob-writes",
    "copy-range-offloading",
    "progress",
    "quiet",
]
_QEMU_PROGRESS = re.compile(rb" {4}\((\d{1,3}\.\d{2})/100%\)\r\n?")
_QEMU_BEGUN = re.compile(rb"(?: {1,4}| {4}\([\d.]{0,6}[/%)01]{0,6}\r?)\Z")
"""The end of the output so far may be the beginning of a progress text, or want its newline: it waits for the rest."""
_STDOUT = re.compile(r"/dev/stdout|/fd/1(?!\d)")


def _parse(words: Sequence[str], short: str, long: Sequence[str]) -> tuple[Options, list[str]] | None:
    """Options and words as the tool itself would see them (GNU order); None where an option is not known."""
    try:
        pairs, rest = getopt.gnu_getopt(list(words), short, list(long))
    except getopt.GetoptError:
        return None
    return dict(pairs), rest


def _bare(words: Sequence[str], *names: str) -> list[str]:
    """Options with an optional `=VALUE` lose it: getopt knows only always and never."""
    end = words.index("--") if "--" in words else len(words)
    optional = re.compile(rf"--({'|'.join(names)})=")
    return [word.split("=")[0] if optional.match(word) else word for word in words[:end]] + list(words[end:])


def _sides(words: list[str]) -> list[str | None]:
    """nbdcopy's source and destination; None for those that have no size: `[ COMMAND ... ]`, `-` and `null:`."""
    sides: list[str | None] = []
    rest = list(words)
    while rest:
        if rest[0] == "[" and "]" in rest:
            sides.append(None)
            rest = rest[rest.index("]") + 1 :]
        else:
            word = rest.pop(0)
            sides.append(None if word in ("-", "null:") else word)
    return sides


def _items_in_flight(options: Options) -> int:
    if "--synchronous" in options:
        return 0
    threads = _number(options, "-T", "--threads") or os.cpu_count() or 1
    return min(threads, _number(options, "-C", "--connections") or NBDCOPY_CONNECTIONS)


def _number(options: Options, short: str, long: str) -> int:
    text = options.get(short, options.get(long, ""))
    return int(text) if text.isdecimal() else 0


def _subcommand(command: Sequence[str]) -> int | None:
    """Where qemu-img's subcommand stands: behind its only option that takes a value, `-T`."""
    at = 1
    while at < len(command) and command[at].startswith("-"):
        at += 2 if command[at] in ("-T", "--trace") else 1
    return at if at < len(command) else None
