"""Both daemons in simulated worlds: the commit tier, what was found before, and a run that can be had again."""

import os
import subprocess
import sys

import pytest
from msgspec import structs

from simulation.clocks import EPOCH
from simulation.plans import plan
from simulation.runs import report, run, run_plan
from simulation.tiers import COMMIT, Totals, kept
from simulation.world import World
from tests.faults.conftest import Note

PARTS = 20
DAY = 86_400.0
OUTAGE_SECONDS = 3 * DAY


@pytest.mark.parametrize("part", range(PARTS))
def test_no_promise_is_broken_in_any_world(part: int, note: Note) -> None:
    totals = Totals()
    for seed in COMMIT[part::PARTS]:
        outcome = run(seed)
        totals.add(outcome)
        assert outcome.violation is None, "\n".join(report(outcome))
    note(**totals.figures())


@pytest.mark.parametrize("seed", kept())
def test_what_was_found_once_is_not_found_again(seed: str) -> None:
    outcome = run(seed)
    assert outcome.violation is None, "\n".join(report(outcome))


def test_a_seed_is_lived_through_again_to_the_byte() -> None:
    """In another process, with other hashes."""

    def told(hashes: str) -> str:
        command = [sys.executable, "-m", "simulation", "storm:3", "storm:4"]
        return subprocess.run(
            command, check=True, capture_output=True, text=True, env={**os.environ, "PYTHONHASHSEED": hashes}
        ).stdout

    assert "digest" in told("1")
    assert told("1") == told("2")
    assert run("storm:4").digest in told("3")


@pytest.mark.parametrize("seed", ["storm", "storm:x", "calm:1", ""])
def test_what_is_no_seed_is_said_to_be_none(seed: str) -> None:
    with pytest.raises(ValueError, match="a seed is one of storm, long, week"):
        run(seed)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("shut", ["refused", "down"])
def test_after_three_days_without_the_hub_every_end_is_dated_within_5_s(shut: str, note: Note) -> None:
    """`down`: the hub's process is away, and systemd keeps its socket: what is said there is read days later."""
    calm = structs.replace(
        plan("long:7"), seconds=OUTAGE_SECONDS + 7200, backups=4, rates={}, weather={}, mishaps=0.0, late_jobs=0.0
    )
    worlds: list[World] = []

    async def outage(world: World) -> None:
        worlds.append(world)
        for producer in world.producers:
            short = structs.replace(producer.backup, begins=60.0, seconds=1800.0, ending="completed", pace_seconds=30.0)
            producer.backup = short
        await world.away(shut, after=120.0, seconds=OUTAGE_SECONDS)

    outcome = run_plan(calm, besides=outage)
    assert outcome.violation is None, "\n".join(report(outcome))
    (world,) = worlds
    off = []
    for job_id, view in world.server.tables.jobs.items():
        (end,) = world.truth.job(job_id).ends
        assert view.job.status == "completed"
        off.append(abs((view.job.completed_at or 0.0) - (EPOCH + end.at)))
        assert OUTAGE_SECONDS - end.at > 2 * DAY
    assert max(off) <= 5.0
    note(ends=len(off), worst_off_seconds=max(off))
