"""What `sbc-report run` knows of nbdcopy and qemu-img, against recordings of both."""

import json
from itertools import pairwise
from pathlib import Path

import pytest

from sbc_daemon.report.tools import WORK_ITEM_BYTES, Nbdcopy, QemuImgConvert, Tool, likely_bytes, recognise

CAPTURES = Path(__file__).parent / "golden" / "captures"
MIB = 1 << 20


def reads(name: str, descriptor: int) -> list[bytes]:
    _, *rest = map(json.loads, (CAPTURES / f"{name}.jsonl").read_text().splitlines())
    return [text.encode() for _, read_from, text in rest if read_from == descriptor]


def played(tool: Tool, pieces: list[bytes]) -> tuple[list[float], bytes]:
    """The percentages seen on the way, and what was passed on."""
    seen: list[float] = []
    passed = b""
    for piece in pieces:
        passed += tool.feed(piece, ended=False)
        if tool.percent is not None:
            seen.append(tool.percent)
    return seen, passed + tool.feed(b"", ended=True)


@pytest.mark.parametrize(
    ("name", "descriptor", "last"),
    [
        ("nbdcopy-8GiB-granularity", 3, 100),
        ("nbdcopy-enospc", 3, 50),
        ("nbdcopy-progress-fd3", 3, 100),
        ("nbdcopy-progress-fd3-synchronous", 3, 100),
        ("nbdcopy-server-killed", 3, 75),
        ("nbdcopy-sigterm", 3, 50),
        ("nbdcopy-two-disks", 3, 100),
        ("nbdcopy-two-disks", 4, 100),
        ("nbdcopy122-progress-fd3", 3, 100),
    ],
)
def test_the_newest_percentage_of_nbdcopy_is_read(name: str, descriptor: int, last: float) -> None:
    seen, passed = played(Nbdcopy(["nbdcopy"]), reads(name, descriptor))
    assert seen[-1] == last
    assert all(before <= after for before, after in pairwise(seen))
    assert passed == b""


@pytest.mark.parametrize(
    ("name", "last"),
    [
        ("qemu-img-compressed-m1", 100.0),
        ("qemu-img-convert-p-pipe", 100.0),
        ("qemu-img-enospc", 35.07),
        ("qemu-img-nbd-dropped", 52.60),
        ("qemu-img-sigterm", 52.60),
    ],
)
def test_the_newest_percentage_of_qemu_img_is_read_and_nothing_of_it_is_passed_on(name: str, last: float) -> None:
    seen, passed = played(QemuImgConvert(["qemu-img", "convert"], 1), reads(name, 1))
    assert (seen[-1], passed) == (last, b"")


@pytest.mark.parametrize("size", [1, 2, 3, 7, 19])
@pytest.mark.parametrize("name", ["qemu-img-enospc", "qemu-img-convert-p-pipe"])
def test_where_reads_are_cut_makes_no_difference(name: str, size: int) -> None:
    text = b"".join(reads(name, 1))
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    whole, _ = played(QemuImgConvert(["qemu-img", "convert"], 1), [text])
    seen, passed = played(QemuImgConvert(["qemu-img", "convert"], 1), pieces)
    assert (seen[-1], passed) == (whole[-1], b"")


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_what_is_not_progress_is_passed_on_byte_for_byte(size: int) -> None:
    ours = b"    (1.00/100%)\r"
    foreign = [b"    (notes)\n", b"  \r\n", b"(2.00/100%)\r", b"\x00\xff    ", b"end   "]
    text = foreign[0] + ours + ours + foreign[1] + foreign[2] + foreign[3] + b"x" + ours + b"\n" + foreign[4]
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    _, passed = played(QemuImgConvert(["qemu-img", "convert"], 1), pieces)
    assert passed == foreign[0] + foreign[1] + foreign[2] + foreign[3] + b"x" + foreign[4]


@pytest.mark.parametrize(
    ("command", "kind", "wants"),
    [
        ("nbdcopy a b", Nbdcopy, "descriptor"),
        ("/usr/bin/nbdcopy --flush -C 2 a b", Nbdcopy, "descriptor"),
        ("nbdcopy -- [ nbdkit memory -p 1 ] b", Nbdcopy, "descriptor"),
        ("nbdcopy a -p b", Nbdcopy, "nothing"),
        ("nbdcopy a b --progress", Nbdcopy, "nothing"),
        ("nbdcopy --progress=7 a b", Nbdcopy, "nothing"),
        ("nbdcopy --prog a b", Nbdcopy, "nothing"),
        ("nbdcopy --prog=7 a b", Nbdcopy, "nothing"),
        ("nbdcopy --from-the-future a b", Nbdcopy, "nothing"),
        ("nbdcopy --blkhash=sha256 a b", Nbdcopy, "descriptor"),
        ("nbdcopy --version", Nbdcopy, "nothing"),
        ("qemu-img convert a b", QemuImgConvert, "stdout"),
        ("./qemu-img -T trace convert -O qcow2 a b", QemuImgConvert, "stdout"),
        ("qemu-img convert -cp a b", QemuImgConvert, "nothing"),
        ("qemu-img convert a b -p", QemuImgConvert, "nothing"),
        ("qemu-img convert -f raw -O p a b", QemuImgConvert, "stdout"),
        ("qemu-img convert -O raw a /dev/stdout", QemuImgConvert, "nothing"),
        ("qemu-img convert -O raw a /proc/self/fd/1", QemuImgConvert, "nothing"),
        ("qemu-img convert -q a b", QemuImgConvert, "nothing"),
        ("qemu-img convert --help", QemuImgConvert, "nothing"),
        ("qemu-img info a", Tool, "nothing"),
        ("qemu-img", Tool, "nothing"),
        ("tar c a", Tool, "nothing"),
        ("my-nbdcopy a b", Tool, "nothing"),
    ],
)
def test_a_tool_is_asked_for_progress_only_when_it_was_not_asked_already(
    command: str, kind: type[Tool], wants: str
) -> None:
    tool = recognise(command.split())
    assert (type(tool), tool.wants) == (kind, wants)


@pytest.mark.parametrize(
    ("command", "asked"),
    [
        ("nbdcopy a b", "nbdcopy --progress=12 a b"),
        ("/bin/nbdcopy -- a b", "/bin/nbdcopy --progress=12 -- a b"),
        ("qemu-img -T x convert -O raw a b", "qemu-img -T x convert -p -O raw a b"),
        ("tar c a", "tar c a"),
    ],
)
def test_what_makes_a_tool_tell_its_progress(command: str, asked: str) -> None:
    assert recognise(command.split()).command(12) == asked.split()


@pytest.mark.parametrize(
    ("percent", "total", "in_flight", "written", "expected"),
    [
        (50, 1000 * MIB, 256 * MIB, None, 500 * MIB),  # nothing else to go by
        (50, 512 * MIB, 256 * MIB, 8 * MIB, 8 * MIB),  # items have begun, little is there
        (50, 8000 * MIB, 256 * MIB, 8 * MIB, 3744 * MIB),  # mostly holes: what is not in flight is done
        (50, 8000 * MIB, 256 * MIB, 3900 * MIB, 3900 * MIB),
        (50, 8000 * MIB, 256 * MIB, 7900 * MIB, 4336 * MIB),  # the file system allocated ahead
        (40, 100 * MIB, 0, 0, 40 * MIB),  # synchronous: the percentage is true
        (100, 100 * MIB, 128 * MIB, 100 * MIB, 100 * MIB),
    ],
)
def test_nbdcopys_percentage_is_corrected_by_what_lies_in_the_target(
    percent: float, total: int, in_flight: int, written: int | None, expected: int
) -> None:
    assert likely_bytes(percent, total, in_flight, written) == expected


def test_the_total_of_nbdcopy_is_its_sources_or_once_it_copies_its_targets(tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(bytes(3000))
    disk = str(tmp_path / "disk")
    assert Nbdcopy(["nbdcopy", disk, "nbd://host"]).total(ended=False) == 3000
    restore = Nbdcopy(["nbdcopy", "nbd://host", disk])
    assert restore.total(ended=False) is None
    restore.feed(b"0/100\n", ended=False)
    assert restore.total(ended=False) == 3000
    assert Nbdcopy(["nbdcopy", "--", "[", "nbdkit", disk, "]", "null:"]).total(ended=True) is None


def test_the_total_of_qemu_img_is_its_raw_sources_or_its_targets_virtual_size(tmp_path: Path) -> None:
    raw, qcow2 = tmp_path / "a.raw", tmp_path / "b.qcow2"
    raw.write_bytes(bytes(4096))
    qcow2.write_bytes(b"QFI\xfb" + bytes(20) + (1 << 40).to_bytes(8, "big"))
    convert = ["qemu-img", "convert"]
    assert recognise([*convert, "-f", "raw", str(raw), "-O", "qcow2", "new"]).total(ended=False) == 4096
    assert recognise([*convert, "-f", "raw", str(raw), str(raw), "new"]).total(ended=False) == 8192
    assert recognise([*convert, str(qcow2), "new"]).total(ended=False) == 1 << 40
    backup = recognise([*convert, "-O", "qcow2", "nbd://host", str(qcow2)])
    assert (backup.total(ended=False), backup.total(ended=True)) == (None, 1 << 40)


def test_with_one_thread_one_item_is_in_flight(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"")
    tool = Nbdcopy(["nbdcopy", "-T", "1", "nbd://host", str(target)])
    tool.feed(b"50/100\n", ended=False)
    assert tool.done(8 * WORK_ITEM_BYTES) == 3 * WORK_ITEM_BYTES
