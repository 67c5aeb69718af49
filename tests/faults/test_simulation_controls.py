"""Each promise of the simulation can be broken: deliberately broken daemons are caught within the commit tier."""

from collections.abc import Iterator

import pytest

from simulation.controls import CONTROLS, Control
from simulation.runs import run
from simulation.story import Violation
from simulation.tiers import COMMIT

MOST_WORLDS = 200


def broken(control: Control) -> Iterator[Violation]:
    """What is found with this control, in the world that is known for it first."""
    assert control.seed in COMMIT
    for seed in (control.seed, *COMMIT[:MOST_WORLDS]):
        found = run(seed, control).violation
        if found is not None:
            yield found


@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control.name)
def test_a_broken_daemon_is_caught(control: Control) -> None:
    assert any(found.invariant in control.caught_by for found in broken(control))


@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control.name)
def test_a_control_leaves_nothing_behind(control: Control) -> None:
    def now() -> list[object]:
        return [getattr(owner, name) for owner, name, _ in control.patches()]

    before = now()
    with control.applied():
        pass
    assert now() == before


def test_there_are_controls_enough() -> None:
    assert len({control.name for control in CONTROLS}) >= 12
