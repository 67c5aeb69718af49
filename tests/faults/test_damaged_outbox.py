"""The outbox damaged at every byte and cut at every length: every start succeeds, and nothing false is told."""

import logging
import multiprocessing
import os
import random
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from msgspec import Struct, structs

from sbc_daemon.outbox_file import NAME
from testbed.installation import sidecar_settings
from tests.faults.conftest import Note
from tests.support.damaged_outbox import Files, Original, original, trial
from tests.support.stage import RealSidecar

ORIGINAL, WITH_LOG = original(), original(with_log=True)
SHARES = 64
"""Pieces of work, so that both processors have something to do until the end."""


class Damage(Struct, frozen=True):
    """One bit flipped (which one goes round), all of a byte, or all bytes from there on gone."""

    at: int
    kind: str

    def done_to(self, content: bytes) -> bytes:
        if self.kind == "cut":
            return content[: self.at]
        mask = 0xFF if self.kind == "byte" else 1 << (self.at * 5 % 8)
        return content[: self.at] + bytes((content[self.at] ^ mask,)) + content[self.at + 1 :]


class Found(Struct):
    outcomes: Counter[str]
    wrong: list[str]


def tried(damages: Sequence[Damage], of: Original, suffix: str) -> Found:
    """In a process of its own. What is wrong is named with the damage."""
    logging.disable(logging.CRITICAL)
    found = Found(Counter(), [])
    for damage in damages:
        files: Files = {**of.files, suffix: damage.done_to(of.files[suffix])}
        result = trial(files, of.told)
        found.outcomes["moved aside" if result.moved_aside else "used"] += 1
        if result.failure or result.false:
            found.wrong.append(f"{damage}: {result.failure or result.false[0]}")
    return found


def try_all(damages: Sequence[Damage], of: Original, suffix: str = "") -> Found:
    """On all processors. Forked from a server, not from here: there are threads here."""
    whole = Found(Counter(), [])
    work = partial(tried, of=of, suffix=suffix)
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=context) as pool:
        for found in pool.map(work, [damages[n::SHARES] for n in range(SHARES)]):
            whole.outcomes += found.outcomes
            whole.wrong += found.wrong
    return whole


def check(damages: Sequence[Damage], of: Original, suffix: str, note: Note) -> Found:
    found = try_all(damages, of, suffix)
    used, aside = found.outcomes["used"], found.outcomes["moved aside"]
    note(starts=len(damages), used=used, moved_aside=aside)
    assert found.wrong == [], f"{len(found.wrong)} of {len(damages)}: {found.wrong[:5]}"
    assert used + aside == len(damages)
    return found


def test_a_sound_outbox_is_used_and_tells_what_was_kept() -> None:
    """Else the tests below would prove nothing."""
    for sound in (ORIGINAL, WITH_LOG):
        result = trial(sound.files, sound.told)
        assert (result.moved_aside, result.failure, result.false, result.letters) == (False, "", [], 1)
        assert result.told == sum(map(len, sound.told.values())) + 2


def test_every_byte_of_the_database_may_be_another(note: Note) -> None:
    content = ORIGINAL.files[""]
    damages = [Damage(at, "bit" if at % 3 else "byte") for at in range(len(content))]
    found = check(damages, ORIGINAL, "", note)
    assert min(found.outcomes.values()) > len(damages) / 20


def test_the_database_may_end_anywhere(note: Note) -> None:
    check([Damage(at, "cut") for at in range(len(ORIGINAL.files[""]))], ORIGINAL, "", note)


def test_every_byte_of_the_log_may_be_another(note: Note) -> None:
    """SQLite knows a broken frame of it, and takes those before it; so it is with the log cut short."""
    content = WITH_LOG.files["-wal"]
    damages = [Damage(at, "bit" if at % 3 else "byte") for at in range(0, len(content), 2)]
    damages += [Damage(at, "cut") for at in range(1, len(content), 8)]
    assert check(damages, WITH_LOG, "-wal", note).outcomes["used"] > len(damages) / 2


def test_the_index_of_the_log_is_built_anew_whatever_it_holds(note: Note) -> None:
    content = WITH_LOG.files["-shm"]
    damages = [Damage(at, "byte") for at in (*range(0, 200, 3), *range(200, len(content), 200))]
    assert check(damages, WITH_LOG, "-shm", note).outcomes["moved aside"] == 0


@pytest.mark.integration
def test_the_real_daemon_starts_and_takes_lines_on_damaged_files(tmp_path: Path, note: Note) -> None:
    r = random.Random(5)
    settings = sidecar_settings(tmp_path, "http://127.0.0.1:9")
    aside = 0
    for number in range(12):
        directory = tmp_path / f"outbox-{number}"
        directory.mkdir(mode=0o700)
        for suffix, content in WITH_LOG.files.items():
            where = Damage(r.randrange(len(content)), r.choice(("bit", "byte", "cut")))
            (directory / (NAME + suffix)).write_bytes(where.done_to(content))
        daemon = RealSidecar(
            tmp_path, structs.replace(settings, outbox=structs.replace(settings.outbox, directory=str(directory)))
        )
        with daemon:
            assert daemon.ask(job_id="new", status="running")["ok"]
        aside += any("damaged" in file.name for file in directory.iterdir())
    note(starts=12, moved_aside=aside)
