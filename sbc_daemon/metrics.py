"""The sidecar's figures as Prometheus reads them: text format 0.0.4. Pure; docs/operations.md says what they mean.

There is no name of a job in it: whoever may scrape learns how much there is, not whose, and the number of series is
bounded. It is a page of plain text: the sidecar, small as it has to be beside a backup, needs no library for it.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, NamedTuple

from msgspec import Struct

from sbc_daemon.outbox import Figures

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Labels = Mapping[str, str]


class Measured(Struct, frozen=True, kw_only=True):
    """What one scrape tells. `figures` is of one moment; `held` counts jobs by the status that the hub answered."""

    version: str
    started_at: float
    wall: float
    figures: Figures
    max_bytes: int
    connections: int
    running: int
    attached: int
    link: Literal["up", "down", "unknown"]
    held: Mapping[int, int]
    counters: Mapping[str, int]


class _Family(NamedTuple):
    name: str
    kind: Literal["counter", "gauge"]
    means: str
    samples: Iterable[tuple[Labels, float]]


def exposition(measured: Measured) -> str:
    return "".join(line + "\n" for family in _families(measured) for line in _lines(family))


def _families(measured: Measured) -> Iterator[_Family]:
    yield _gauge("build_info", "1, with the version as a label.", 1, version=measured.version)
    yield _gauge("start_time_seconds", "When the daemon started, in Unix seconds.", measured.started_at)
    yield from _producers(measured)
    yield from _messages(measured.figures)
    yield from _outbox(measured)
    yield from _letters(measured.figures)
    yield from _hub(measured)


def _producers(measured: Measured) -> Iterator[_Family]:
    counters = measured.counters
    yield _counter("lines", "Lines of producers that were taken in.", counters["lines"])
    yield _counter(
        "lines_dropped", "Lines that were dropped: not JSON, a wrong type, a refused one.", counters["bad_lines"]
    )
    yield _gauge("connections", "Producers that are connected.", measured.connections)
    yield _gauge("jobs_running", "Jobs that have not ended.", measured.running)
    yield _gauge("jobs_attached", "Of these, attached to a living process.", measured.attached)


def _messages(figures: Figures) -> Iterator[_Family]:
    ledger = figures.ledger
    waiting = {
        "state": figures.states,
        "progress": figures.progress,
        "sample": figures.samples,
        "memory": figures.in_memory,
    }
    yield _counter("messages_accepted", "Messages taken for delivery: ended plus waiting.", ledger.accepted)
    yield _by("messages_ended", "counter", "Messages that came to an end, by which.", "result", ledger.ends)
    yield _by(
        "messages_waiting", "gauge", "Messages not delivered yet, by kind; memory: no room on disk.", "kind", waiting
    )


def _outbox(measured: Measured) -> Iterator[_Family]:
    figures, oldest = measured.figures, measured.figures.oldest_wall
    age = 0.0 if oldest is None else max(0.0, measured.wall - oldest)
    yield _counter("messages_refused", "Messages that found no room on the disk.", measured.counters["refused"])
    yield _gauge("outbox_bytes", "What the outbox uses of the disk.", figures.bytes_used)
    yield _gauge("outbox_limit_bytes", "What it may use.", measured.max_bytes)
    yield _gauge("outbox_oldest_seconds", "Age of the oldest message that waits; 0 without one.", age)
    yield _counter("outbox_moved_aside", "Damaged outboxes that were moved aside.", figures.moved_aside)


def _letters(figures: Figures) -> Iterator[_Family]:
    ledger = figures.ledger
    gone = {
        "retried": ledger.letters_retried,
        "deleted": ledger.letters_deleted,
        "evicted": ledger.letters_evicted,
    }
    yield _gauge(
        "dead_letters", "Messages that the hub refused for good, and nobody has dealt with.", figures.dead_letters
    )
    yield _by("dead_letters_gone", "counter", "Dead letters that are no more, by why.", "how", gone)


def _hub(measured: Measured) -> Iterator[_Family]:
    counters = measured.counters
    answers = {
        "applied": counters["delivered"],
        **{result: counters[result] for result in ("duplicate", "stale", "final", "retried", "rejected")},
    }
    states = {state: int(state == measured.link) for state in ("up", "down", "unknown")}
    held = {str(status): count for status, count in sorted(measured.held.items())}
    yield _by("hub_link", "gauge", "1 for the state of the link to the hub; unknown: not tried yet.", "state", states)
    yield _by("hub_answers", "counter", "What became of attempts to deliver a message.", "result", answers)
    yield _by("jobs_held", "gauge", "Jobs whose messages the hub does not take for now, by its answer.", "status", held)


def _gauge(name: str, means: str, value: float, **labels: str) -> _Family:
    return _Family(name, "gauge", means, [(labels, value)])


def _counter(name: str, means: str, value: float) -> _Family:
    return _Family(name, "counter", means, [({}, value)])


def _by(name: str, kind: Literal["counter", "gauge"], means: str, label: str, values: Mapping[str, float]) -> _Family:
    return _Family(name, kind, means, [({label: key}, value) for key, value in values.items()])


def _lines(family: _Family) -> Iterator[str]:
    name = f"sbc_{family.name}" + ("_total" if family.kind == "counter" else "")
    yield f"# HELP {name} {family.means}"
    yield f"# TYPE {name} {family.kind}"
    for labels, value in family.samples:
        told = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        yield f"{name}{{{told}}} {value!r}" if told else f"{name} {value!r}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
