import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sbc_daemon.framing import OVER_LONG, LineSplitter


def fed(splitter: LineSplitter, data: bytes, most: int = 1000) -> list[bytes]:
    """The lines that end within `data`, taken so many at a time."""
    splitter.add(data)
    found = splitter.take(most)
    while splitter.more:
        found += splitter.take(most)
    return found


def test_lines_come_out_whole_however_they_were_cut() -> None:
    splitter = LineSplitter()
    assert [fed(splitter, piece) for piece in (b'{"a', b'":1}\n{"b"', b":2}\n")] == [[], [b'{"a":1}'], [b'{"b":2}']]
    assert not splitter.unfinished


def test_many_lines_of_one_read_come_out_in_order() -> None:
    assert fed(LineSplitter(), b"1\n2\n\n3\n") == [b"1", b"2", b"3"]


def test_the_last_line_may_lack_its_newline() -> None:
    splitter = LineSplitter()
    assert fed(splitter, b"{}") == []
    assert splitter.unfinished
    assert splitter.finish() == [b"{}"]


@pytest.mark.parametrize(("length", "found"), [(9, b"x" * 9), (10, OVER_LONG), (11, OVER_LONG)])
@pytest.mark.parametrize("cut", [0, 1, 9])
def test_the_limit_counts_the_newline(length: int, found: object, cut: int) -> None:
    data = b"x" * length + b"\n"
    splitter = LineSplitter(limit=10)
    assert fed(splitter, data[:cut]) + fed(splitter, data[cut:]) == [found]


def test_an_over_long_line_is_told_once_and_the_next_one_is_read() -> None:
    splitter = LineSplitter(limit=10)
    found = [line for _ in range(50) for line in fed(splitter, b"x" * 7)]
    assert found == [OVER_LONG]
    assert fed(splitter, b"xx\nnext\n") == [b"next"]


def test_a_gigabyte_without_a_newline_is_held_in_bounded_memory() -> None:
    splitter, chunk = LineSplitter(), b"x" * (1 << 20)
    found = [line for _ in range(1024) for line in fed(splitter, chunk)]
    assert found == [OVER_LONG]
    assert len(splitter._held) == 0
    assert fed(splitter, b'\n{"job_id":"j1"}\n') == [b'{"job_id":"j1"}']


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from([b"\n", b"x", b"xy" * 9])).map(b"".join)), st.integers(1, 40), st.integers(1, 5)
)
def test_how_the_bytes_are_cut_and_taken_makes_no_difference(pieces: list[bytes], limit: int, most: int) -> None:
    cut, whole = LineSplitter(limit), LineSplitter(limit)
    in_pieces = [line for piece in pieces for line in fed(cut, piece, most)]
    assert in_pieces == fed(whole, b"".join(pieces))
    assert cut.unfinished == whole.unfinished
    assert cut.finish() == whole.finish()
