"""Ten thousand kills: scene after scene, each with a seed of its own, until the number or the time is reached."""

import random
import shutil
import tempfile
from pathlib import Path

from soak.kills import Figures, Scene
from soak.parts import BUILD, Run
from soak.stage import Deaths

DAEMONS, SERVERS, PARTITIONS = 10_000, 500, 500
A_SCENE = Deaths(hub=250, sidecar=250, server=25, partitions=25)
JOBS_A_SCENE = 20_000
LOGS = ("*.log", "*.toml", "ledger.json")


def run(run: Run) -> None:
    seeds = random.Random(run.seed)
    while run.seconds_left > 0 and not run.outcome.wrong and not _enough(run):
        seed = seeds.randrange(1_000_000)
        with tempfile.TemporaryDirectory(prefix="soak-") as name:
            directory = Path(name) / "scene"
            try:
                with Scene(directory, seed, A_SCENE, JOBS_A_SCENE) as scene:
                    figures = scene.play(seconds=max(1.0, run.seconds_left))
                _add(run, figures)
                run.outcome.wrong += [f"scene with seed {seed}: {what}" for what in figures.wrong]
            except Exception as error:  # whatever it is, its seed and its logs must not be lost
                run.outcome.wrong.append(f"scene with seed {seed}: {type(error).__name__}: {error}: {error.__cause__}")
            if run.outcome.wrong:
                _keep(directory, BUILD / f"kills-{seed}")
        run.tell(f"last scene: seed {seed}")


def _enough(run: Run) -> bool:
    done = run.outcome.figures
    wanted = {"kills_of_daemons": DAEMONS, "kills_of_mariadbd": SERVERS, "partitions": PARTITIONS}
    return all(done.get(name, 0) >= count for name, count in wanted.items())


def _add(run: Run, figures: Figures) -> None:
    run.outcome.add(
        scenes=1,
        kills_of_daemons=figures.died["sha-daemon"] + figures.died["sbc-daemon"],
        kills_of_mariadbd=figures.died["mariadbd"],
        partitions=figures.died["network"],
        jobs=figures.jobs,
        lines=figures.lines,
        acks=figures.acks,
        messages=figures.samples,
        looks=figures.looks,
    )
    run.outcome.greatest("slowest_ack_seconds", round(figures.slowest_ack_seconds, 2))
    run.outcome.greatest("delivered_after_seconds", round(figures.delivered_after_seconds, 2))


def _keep(directory: Path, to: Path) -> None:
    """Logs, settings and the ledger, for whoever looks for the cause."""
    for pattern in LOGS:
        for file in directory.rglob(pattern):
            target = to / file.relative_to(directory)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
