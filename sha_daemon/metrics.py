"""The hub's figures as Prometheus reads them, gathered at the scrape from the plain numbers that the parts keep.

docs/api.md says what each means. Imported with the first scrape: the start does not wait for the library.
"""

from collections.abc import Callable, Iterator
from platform import python_version

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from sha_daemon.app import Hub, Parts
from sha_daemon.health import DATABASE_STATES
from sha_daemon.tally import Distribution, Door
from telemetry_common import __version__

MICROSECONDS = 1_000_000


class HubCollector(Collector):
    """Reads the hub's parts without awaiting: what one scrape says is of one moment."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def collect(self) -> Iterator[Metric]:
        hub = self._hub
        yield _gauge("build_info", "1, with the version as a label.", 1, version=__version__, python=python_version())
        yield from _updates(hub.parts)
        yield from _queue(hub.parts)
        yield from _commits(hub.parts)
        yield from _requests(hub)
        yield from _watchdog(hub.parts)
        yield from _database(hub)


def scraper(hub: Hub) -> Callable[[], bytes]:
    """Each call is a scrape of this hub, in the text format. Nothing is kept in the library's own registry."""
    own = CollectorRegistry(auto_describe=False)
    own.register(HubCollector(hub))
    ProcessCollector(registry=own)
    return lambda: generate_latest(own)


def _updates(parts: dict[str, Parts]) -> Iterator[Metric]:
    accepted = _counter("updates_accepted", "Updates taken into the queue.", "job_type")
    ended = _counter("updates_ended", "Updates that came to an end, by which.", "job_type", "result")
    waiting = _gauges("updates_waiting", "Updates queued or in a transaction: accepted less ended.", "job_type")
    for name, part in parts.items():
        tally = part.ingest.tally()
        accepted.add_metric([name], tally.accepted)
        waiting.add_metric([name], part.room.updates + tally.under_way)
        for result, count in tally.ends().items():
            ended.add_metric([name, result], count)
    yield from (accepted, ended, waiting)


def _queue(parts: dict[str, Parts]) -> Iterator[Metric]:
    queued = _gauges("queue_updates", "Updates that wait for a transaction.", "job_type")
    limit = _gauges("queue_limit_updates", "Updates that may wait; a further one gets 503.", "job_type")
    size = _gauges("queue_bytes", "Bytes of the bodies that wait.", "job_type")
    for name, part in parts.items():
        queued.add_metric([name], part.room.updates)
        size.add_metric([name], part.room.bytes)
        limit.add_metric([name], part.room.most)
    yield from (queued, size, limit)


def _commits(parts: dict[str, Parts]) -> Iterator[Metric]:
    sizes = _histogram("batch_updates", "Updates committed in one transaction.")
    seconds = _histogram("commit_seconds", "Duration of a transaction that was committed.")
    for name, part in parts.items():
        tally = part.ingest.tally()
        _add(sizes, name, tally.batch_updates)
        _add(seconds, name, tally.commit_seconds)
    yield from (sizes, seconds)


def _requests(hub: Hub) -> Iterator[Metric]:
    rejected = _counter("rejected", "What was answered with an error, by reason.", "method", "reason")
    for (method, reason), count in sorted(hub.receiver.rejected.items()):
        rejected.add_metric([method, reason], count)
    yield rejected
    yield _count("jobs_revived", "Verdicts of the watchdog taken back by a later update.", hub.receiver.revived)
    yield _count("updates_with_rowless_disks", "Updates with a disk that could get no row.", hub.receiver.rowless)
    yield from _door(hub.door)
    readers = hub.stream.subscribers
    yield _gauge("stream_readers", "Readers that follow the stream.", readers.places)
    yield _count("stream_readers_dropped", "Readers that were too slow.", readers.dropped)
    yield _count("stream_readers_refused", "Readers for whom there was no place.", readers.refused)


def _door(door: Door) -> Iterator[Metric]:
    there = door.connections
    yield _gauge("connections", "Connections that are open.", there.count if there else 0)
    yield _gauge("connections_limit", "Connections that may be open; a further one gets 503.", door.limit)
    yield _count("connections_cut_off", "Connections that kept the hub waiting.", there.cut_off if there else 0)
    if there and there.certificate_expires is not None:
        means = "When the certificate that the hub shows expires, in Unix seconds."
        yield _gauge("certificate_expires_timestamp_seconds", means, there.certificate_expires)
    yield _count("turned_away", "Connections and large bodies for which there was no room.", door.turned_away)


def _watchdog(parts: dict[str, Parts]) -> Iterator[Metric]:
    silent = _gauges("watchdog_silent_jobs", "Running jobs that were silent at the last sweep.", "job_type")
    never = _gauges("watchdog_never_heard_jobs", "Running jobs that never sent telemetry.", "job_type")
    failed = _counter("watchdog_failed_jobs", "Jobs failed by the watchdog.", "job_type")
    put_off = _counter("watchdog_sweeps_put_off", "Sweeps that found no database.", "job_type")
    seconds = _histogram("watchdog_sweep_seconds", "Duration of a sweep.")
    for name, part in parts.items():
        silent.add_metric([name], part.watchdog.silent)
        never.add_metric([name], part.watchdog.never_heard)
        failed.add_metric([name], part.watchdog.failed)
        put_off.add_metric([name], part.watchdog.put_off)
        _add(seconds, name, part.watchdog.sweep_seconds)
    yield from (silent, never, failed, put_off, seconds)


def _database(hub: Hub) -> Iterator[Metric]:
    heard = hub.listening.estimate_us() / MICROSECONDS
    yield _count("listening_seconds", "The listening clock: seconds in which a hub could hear.", heard)
    yield _gauge("healthy", "1 while the health report says ok.", int(hub.health.ok))
    states = _gauges("database_state", "1 for the state that the database is in.", "state")
    for state in DATABASE_STATES:
        states.add_metric([state], int(state == hub.health.database_state))
    yield states
    if hub.pruning is not None:
        yield _count("history_samples_pruned", "Samples deleted because of their age.", hub.pruning.pruned)
    jobs = _gauges("jobs", "Jobs that have not ended, as of the last look at the database.", "status")
    for status, count in hub.health.counts.items():
        jobs.add_metric([status], count)
    yield jobs


def _gauge(name: str, means: str, value: float, **labels: str) -> Metric:
    family = _gauges(name, means, *labels)
    family.add_metric(list(labels.values()), value)
    return family


def _gauges(name: str, means: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"sha_{name}", means, labels=labels)


def _count(name: str, means: str, value: float) -> Metric:
    return CounterMetricFamily(f"sha_{name}", means, value=value)


def _counter(name: str, means: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"sha_{name}", means, labels=labels)


def _histogram(name: str, means: str) -> HistogramMetricFamily:
    return HistogramMetricFamily(f"sha_{name}", means, labels=["job_type"])


def _add(family: HistogramMetricFamily, job_type: str, values: Distribution) -> None:
    """Prometheus counts what lies at or below each bound."""
    below, buckets = 0, []
    for bound, count in zip((*map(str, map(float, values.bounds)), "+Inf"), values.counts, strict=True):
        below += count
        buckets.append((bound, below))
    family.add_metric([job_type], buckets, values.sum)
