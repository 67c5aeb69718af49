"""What every part of a world stands on."""

from dataclasses import dataclass

from simulation.faults import Faults
from simulation.loop import VirtualLoop
from simulation.story import Story
from simulation.truth import Truth


@dataclass(frozen=True)
class Ground:
    """The time, what is broken, what happened, and what is true of it."""

    loop: VirtualLoop
    faults: Faults
    story: Story
    truth: Truth
