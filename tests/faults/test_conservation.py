"""The judge of the kills is judged: each kind of loss, invention and disorder is found, and a sound world is not."""

from collections.abc import Callable

import pytest
from msgspec import structs

from soak.conservation import JobRow, Sample, violations
from soak.ledger import Book, End, Ledger
from soak.witness import went_back

Rows = dict[str, JobRow]
Samples = dict[str, list[Sample]]


def sound() -> tuple[Ledger, Rows, Samples]:
    """One job that was completed, one that runs, one that nobody has touched."""
    done = Book(
        disks=2,
        phases=["a", "b"],
        acknowledged=["a", "b"],
        said={("a", 0), ("a", 5), ("b", 10), ("b", 20)},
        end=End("completed", 20, None, acknowledged=True),
    )
    runs = Book(disks=0, phases=["a", "b"], acknowledged=["a"], said={("a", 0), ("b", 10)})
    rows = {
        "done": JobRow("completed", 20, 100.0, None, 9, (("completed", 10), ("completed", 10))),
        "runs": JobRow("running", 0, 0.0, None, 4, ()),
        "idle": JobRow("pending", 0, 0.0, None, None, ()),
    }
    samples = {
        "done": [
            Sample(1, "running", "a", 0, 0.0),
            Sample(3, "running", "a", 5, 25.0),
            Sample(7, "running", "b", 10, 50.0),
            Sample(9, "completed", "b", 20, 100.0),
        ],
        "runs": [Sample(4, "running", "a", 0, 0.0)],
    }
    return Ledger(jobs={"done": done, "runs": runs}), rows, samples


def row(job_id: str, **change: object) -> Callable[[Rows, Samples], None]:
    return lambda rows, _: rows.update({job_id: structs.replace(rows[job_id], **change)})


def sample(place: int, **change: object) -> Callable[[Rows, Samples], None]:
    def work(_: Rows, samples: Samples) -> None:
        samples["done"][place] = structs.replace(samples["done"][place], **change)

    return work


BROKEN: dict[str, Callable[[Rows, Samples], object]] = {
    "acknowledged and lost": lambda _, samples: samples.update(runs=[]),
    "never said": sample(1, bytes_transferred=6),
    "delivered as": sample(0, phase="b", bytes_transferred=10),
    "went backwards": sample(1, progress_percent=60.0),
    "an end was undone": sample(2, status="failed"),
    "its acknowledged end was": row("done", status="running"),
    "its acknowledged end": row("done", bytes_transferred=15),
    "at 99.5 percent": row("done", progress_percent=99.5),
    "its disks are": row("done", disks=(("running", 10), ("completed", 10))),
    "the row's seq": row("done", seq=8),
    "its row is gone": lambda rows, _: rows.pop("done"),
    "nobody reported on it": row("idle", status="running"),
}


def test_a_sound_world_is_not_complained_about() -> None:
    assert violations(*sound()) == []


@pytest.mark.parametrize("complaint", BROKEN)
def test_every_kind_of_harm_is_found(complaint: str) -> None:
    ledger, rows, samples = sound()
    BROKEN[complaint](rows, samples)
    assert any(complaint in found for found in violations(ledger, rows, samples))


def test_a_refused_line_is_found() -> None:
    ledger, rows, samples = sound()
    ledger.refused.append("done a: the disk is full")
    assert violations(ledger, rows, samples) == ["a line was refused: done a: the disk is full"]


@pytest.mark.parametrize(
    ("before", "now", "back"),
    [
        ((5, 1, 10.0, "running"), (5, 1, 10.0, "completed"), False),
        ((5, 1, 10.0, "running"), (4, 2, 10.0, "running"), True),
        ((5, 2, 10.0, "running"), (5, 1, 10.0, "running"), True),
        ((5, 1, 10.0, "running"), (5, 2, 9.0, "running"), True),
        ((5, 1, 10.0, "failed"), (5, 2, 10.0, "running"), True),
    ],
)
def test_what_goes_back_between_two_looks_is_seen(
    before: tuple[object, ...], now: tuple[object, ...], back: bool
) -> None:
    assert went_back(before, now) is back
