"""Which lanes share the next request."""

import pytest

from sbc_daemon.lanes import Lane, Lanes, Queue
from sbc_daemon.turns import MAX_ITEMS, Turn, Turns, fitting


class Row:
    """Lanes, and whose turn it is among them; eight requests may be under way."""

    def __init__(self) -> None:
        self.lanes = Lanes()
        self.turns = Turns(self.lanes, 8)

    def fresh(self, *jobs: str) -> None:
        for job in jobs:
            self.lanes.wake(job)

    def doubtful(self, *jobs: str, alone: bool = False) -> None:
        self.fresh(*jobs)
        for lane in self.lanes:
            if lane.job_id in jobs:
                lane.failures, lane.alone = 1, alone
                self.lanes.again(lane, 0)

    def next(self, free: int = 8, *, batches: bool = True) -> list[str]:
        turn = self.turn(free, batches=batches)
        return [lane.job_id for lane in turn.lanes] if turn else []

    def turn(self, free: int = 8, *, batches: bool = True) -> Turn | None:
        return self.turns.next(0.0, free, batches=batches)


@pytest.fixture
def row() -> Row:
    return Row()


def names(count: int, kind: str = "j") -> list[str]:
    return [f"{kind}{n}" for n in range(count)]


def test_fresh_news_goes_alone_as_long_as_each_finds_a_request_free(row: Row) -> None:
    row.fresh(*names(3))
    assert [row.next(free) for free in (8, 7, 6)] == [["j0"], ["j1"], ["j2"]]
    assert row.next(5) == []


def test_more_fresh_news_than_free_requests_goes_together(row: Row) -> None:
    row.fresh(*names(9))
    assert row.next(8) == names(9)


def test_what_a_start_or_an_outage_left_goes_together_and_leaves_room_for_fresh_news(row: Row) -> None:
    row.lanes.take_up(names(1200))
    first, second = row.turn(), row.turn()
    assert first is not None
    assert second is not None
    assert (len(first.lanes), len(second.lanes)) == (MAX_ITEMS, MAX_ITEMS)
    assert row.next() == []
    row.fresh("news")
    assert row.next() == ["news"]
    row.turns.over(first)
    assert len(row.next()) == 200


def test_after_an_outage_what_waited_is_behind_what_is_said_then(row: Row) -> None:
    row.fresh(*names(5))
    row.lanes.outage_over()
    row.fresh("news")
    assert row.next() == ["news"]
    assert row.next() == names(5)


def test_a_hub_that_takes_no_batches_gets_each_alone(row: Row) -> None:
    row.lanes.take_up(names(20))
    row.doubtful("d")
    assert {len(row.next(batches=False)) for _ in range(21)} == {1}


def test_doubtful_lanes_keep_to_themselves_in_a_quarter_of_the_requests(row: Row) -> None:
    row.lanes.take_up(names(10))
    row.doubtful(*names(700, "d"))
    found = [row.next() for _ in range(4)]
    assert sorted(map(len, found)) == [0, 10, 200, 500]
    assert sorted({job[0] for job in jobs} for jobs in found if jobs) == [{"j"}, {"d"}, {"d"}] or all(
        len({job[0] for job in jobs}) == 1 for jobs in found if jobs
    )


def test_one_that_may_have_made_a_batch_fail_goes_alone(row: Row) -> None:
    row.doubtful("d0", "d1")
    row.doubtful("suspect", alone=True)
    row.doubtful("d2")
    taken: list[list[str]] = []
    for _ in range(3):
        turn = row.turn()
        assert turn is not None
        taken.append([lane.job_id for lane in turn.lanes])
        row.turns.over(turn)
    assert taken == [["d0", "d1"], ["suspect"], ["d2"]]


def test_a_lane_is_in_one_place_only(row: Row) -> None:
    row.fresh("a")
    turn = row.turn()
    assert turn is not None
    (lane,) = turn.lanes
    assert isinstance(lane, Lane)
    row.lanes.again(lane, 1)
    row.fresh("a")
    assert row.lanes.ready(*Queue) == 1
    row.lanes.put_off(lane, 5.0)
    assert row.lanes.ready(*Queue) == 0
    row.lanes.release_due(5.0)
    assert row.lanes.ready(*Queue) == 1


@pytest.mark.parametrize(
    ("sizes", "count"), [([], 1), ([1], 1), ([99], 1), ([4, 6], 2), ([4, 6, 1], 2), ([11, 1], 1), ([3] * 100, 3)]
)
def test_as_many_as_fit_but_at_least_one(sizes: list[int], count: int) -> None:
    assert fitting(sizes, 10) == count
