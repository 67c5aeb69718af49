"""The wire contract: what is taken, what is refused and in which words."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from telemetry_common.contract import (
    MAX_DISKS,
    MAX_ERROR_CHARACTERS,
    MAX_SEQ,
    ContractError,
    DiskReport,
    ErrorInfo,
    Update,
    decode_line,
    decode_update,
    disk_bytes,
    encode,
    percent,
)

GOLDEN = Path(__file__).parent / "golden" / "messages"
ACCEPTED = sorted((GOLDEN / "accepted").glob("*.json"))
REFUSED = sorted((GOLDEN / "refused").glob("*.txt"))


def accepted(name: str) -> Update:
    return decode_update((GOLDEN / "accepted" / f"{name}.json").read_bytes())


@pytest.mark.parametrize("path", ACCEPTED, ids=lambda path: path.stem)
def test_golden_message_is_taken_and_survives_a_round_trip(path: Path) -> None:
    update = decode_update(path.read_bytes())
    assert decode_update(encode(update)) == update


@pytest.mark.parametrize("path", REFUSED, ids=lambda path: path.stem)
def test_golden_message_is_refused_naming_what_is_wrong(path: Path) -> None:
    fragment, body = path.read_bytes().split(b"\n", 1)
    with pytest.raises(ContractError) as refusal:
        decode_update(body)
    assert fragment.decode() in str(refusal.value)


def test_every_field_of_the_full_example_is_read() -> None:
    update = accepted("example-full")
    assert (update.bytes_transferred, update.total_bytes) == (45678901234, 109521739776)
    assert (update.transfer_speed_bps, update.eta_seconds, update.progress_percent) == (125000000, 512, 42.5)
    assert update.disks is not UNSET
    assert [disk.status for disk in update.disks] == ["transferring", "pending"]
    assert update.error is None


def test_absent_is_not_zero() -> None:
    update = accepted("minimal")
    assert update.bytes_transferred is UNSET
    assert update.disks is UNSET
    assert update.error is UNSET


def test_a_refusal_quotes_no_more_than_a_person_would_read() -> None:
    with pytest.raises(ContractError, match="expected one of pending, running") as refusal:
        decode_update(b'{"status":"' + b"x" * 500_000 + b'"}')
    assert len(str(refusal.value)) <= 300


def test_a_message_deeper_than_any_stack_is_refused() -> None:
    with pytest.raises(ContractError, match="nested too deeply"):
        decode_update(b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}")


def test_a_message_has_as_many_disks_as_a_job_can_have_and_not_one_more() -> None:
    def message(disks: int) -> bytes:
        return encode(Update(status="running", disks=tuple(DiskReport(disk_index=n) for n in range(disks))))

    assert decode_update(message(MAX_DISKS)).disks is not UNSET
    with pytest.raises(ContractError, match=r"length <= 1024 - at `\$.disks`"):
        decode_update(message(MAX_DISKS + 1))


def test_above_the_greatest_number_of_a_message_there_is_room_in_the_table() -> None:
    assert decode_update(encode(Update(status="running", seq=MAX_SEQ))).seq == MAX_SEQ < 2**63 - 1


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_a_contract_error(data: bytes) -> None:
    for decode in (decode_update, decode_line):
        with contextlib.suppress(ContractError):
            assert decode(data) is not None


def test_an_error_shows_its_code_in_brackets_and_keeps_it_when_the_message_is_cut() -> None:
    assert ErrorInfo("disk full", "ENOSPC").text() == "disk full [ENOSPC]"
    assert ErrorInfo("disk full").text() == "disk full"
    cut = ErrorInfo("x" * 100_000, 28).text()
    assert len(cut) == MAX_ERROR_CHARACTERS
    assert cut.endswith(" [28]")
    assert ErrorInfo("disk full", "c" * 20_000).text().startswith("disk full [ccc")


@pytest.mark.parametrize(
    ("done", "total", "expected"),
    [
        (0, 0, UNSET),
        (5, 0, UNSET),
        (0, 10, 0.0),
        (1, 3, 33.33),
        (999_999, 1_000_000, 99.99),
        (10, 10, 100.0),
        (11, 10, 100.0),
    ],
)
def test_percent_is_rounded_down_so_that_only_a_finished_copy_shows_100(
    done: int, total: int, expected: object
) -> None:
    assert percent(done, total) == expected


def test_bytes_of_disks_count_an_absent_figure_as_none() -> None:
    assert disk_bytes([DiskReport(disk_index=0, bytes_transferred=5), DiskReport(disk_index=1)]) == 5
