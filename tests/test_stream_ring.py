"""The ring of events: numbered without a gap, shared by the slow and the quick, bounded."""

import pytest

from sha_daemon.stream_ring import BLOCK_BYTES, Event, Key, Ring

A, B = ("backup", "a"), ("backup", "b")


def events(*keys: Key, size: int = 10) -> list[Event]:
    return [Event(key, f"{key[1]}{number}".encode().ljust(size)) for number, key in enumerate(keys, 1)]


def read(ring: Ring, place: int, key: Key | None = None) -> bytes:
    text = b""
    while place < ring.last:
        block = ring.following(place)
        text += block.after(place, key)
        place = block.last
    return text


@pytest.mark.parametrize("at_once", [1, 2, 5, 7])
def test_from_every_place_the_rest_is_read_whatever_was_told_together(at_once: int) -> None:
    told = events(A, B, A, A, B, B, A)
    ring = Ring(1 << 20, 100)
    for start in range(0, len(told), at_once):
        ring.add(told[start : start + at_once])
    assert ring.last == 7
    for place in range(8):
        assert ring.holds(place)
        rest = told[place:]
        assert read(ring, place) == b"".join(event.text for event in rest)
        for key in (A, B):
            assert read(ring, place, key) == b"".join(event.text for event in rest if event.key == key)


def test_whoever_reads_everything_is_given_the_very_same_text() -> None:
    ring = Ring(1 << 20, 100)
    ring.add(events(A, B))
    assert ring.following(0).after(0, None) is ring.following(0).after(0, None)


@pytest.mark.parametrize(("max_bytes", "max_events"), [(50, 1000), (1 << 20, 5)])
def test_the_oldest_go_first_and_their_readers_have_lost_their_place(max_bytes: int, max_events: int) -> None:
    ring = Ring(max_bytes, max_events)
    for event in events(*[A] * 20):
        ring.add([event])
    assert [place for place in range(22) if ring.holds(place)] == [15, 16, 17, 18, 19, 20]
    assert read(ring, 15).split() == [b"a16", b"a17", b"a18", b"a19", b"a20"]


def test_a_ring_in_which_nothing_was_told_is_held_at_its_beginning_only() -> None:
    ring = Ring(10, 10)
    assert [place for place in (-1, 0, 1) if ring.holds(place)] == [0]


def test_what_is_larger_than_the_ring_is_told_to_nobody_and_everybody_begins_anew() -> None:
    ring = Ring(100, 10)
    ring.add(events(A, size=101))
    assert (ring.last, ring.holds(0), ring.holds(1)) == (1, False, True)


def test_a_flood_is_cut_into_blocks_that_a_connection_can_take() -> None:
    ring = Ring(1 << 30, 10**6)
    ring.add(events(*[A] * 1000, size=1000))
    sizes, place = [], 0
    while place < ring.last:
        block = ring.following(place)
        sizes.append(len(block.text))
        place = block.last
    assert sum(sizes) == 10**6
    assert max(sizes) <= BLOCK_BYTES
