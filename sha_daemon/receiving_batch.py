"""Many updates in one request: each is read, committed and answered as if it had come alone."""

from collections import Counter
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from sha_daemon.batch import Outcome
from sha_daemon.content_encoding import unpacked
from sha_daemon.job_types import BACKUP
from sha_daemon.receiving import Receiver
from sha_daemon.replies import Problem, Reply, json_reply
from sha_daemon.waited import aged
from telemetry_common.contract import ContractError, Update, decoded

MAX_ITEMS = 500
"""Updates in one request: as many as the writer puts into one transaction."""


class _Batch(Struct, frozen=True):
    updates: Annotated[list[Raw], Meta(max_length=MAX_ITEMS)]


class _Name(Struct, frozen=True):
    """Whom an item is about, as far as that can be told without reading the rest of it."""

    job_id: str
    job_type: Any = BACKUP.name

    def kind(self) -> str:
        """The job type; the usual one where it is no text, for reading the rest of the item will tell that."""
        return self.job_type if isinstance(self.job_type, str) else BACKUP.name


class ItemAnswer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`status` is what a single post would have been answered; the rest is what its headers or problem would say."""

    job_id: str | None
    status: int
    result: str | UnsetType = UNSET
    seq: int | UnsetType = UNSET
    job_status: str | UnsetType = UNSET
    detail: str | UnsetType = UNSET


class _Item(Struct):
    """One update on its way to its answer: a problem, or what became of it."""

    size: int
    name: _Name | None = None
    update: Update | None = None
    became: Outcome | Problem | None = None


_batches = msgspec.json.Decoder(_Batch)
_names = msgspec.json.Decoder(_Name)


class BatchReceiver:
    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    async def receive(self, content_type: str, body: bytes, encoding: str = "", *, waited: float = 0.0) -> Reply:
        """200 with an array of one ItemAnswer an update, in order, when all are committed or refused.

        Raises Problem where the updates cannot be told apart: the sender then posts them singly.
        """
        self._receiver.check(content_type)
        try:
            batch: _Batch = decoded(_batches, unpacked(body, encoding) if encoding else body)
        except ContractError as error:
            raise Problem(400, str(error)) from None
        items = [self._read(raw, waited) for raw in batch.updates]
        await self._store(items)
        return json_reply([_answer(item, self._receiver.rejected) for item in items])

    def _read(self, raw: Raw, waited: float) -> _Item:
        item = _Item(len(memoryview(raw)))
        try:
            item.name = decoded(_names, raw)
            item.update = aged(self._receiver.read(item.name.kind(), item.name.job_id, raw), waited)
        except ContractError as error:
            item.became = Problem(400, str(error))
        except Problem as problem:
            item.became = problem
        return item

    async def _store(self, items: list[_Item]) -> None:
        """Those that could be read, each kind of job in its own ingest."""
        by_type: dict[str, list[_Item]] = {}
        for item in items:
            if item.name is not None and item.became is None:
                by_type.setdefault(item.name.kind(), []).append(item)
        for job_type, these in by_type.items():
            updates = [(item.name.job_id, item.update, item.size) for item in these if item.name and item.update]
            for item, became in zip(these, await self._receiver.store(job_type, updates), strict=True):
                item.became = became


def _answer(item: _Item, rejected: Counter[tuple[str, str]]) -> ItemAnswer:
    job_id = item.name.job_id if item.name is not None else None
    if not isinstance(item.became, Outcome):
        problem = item.became or Problem(500, "the hub failed; try again")
        rejected["batch", problem.reason] += 1
        return ItemAnswer(job_id=job_id, status=problem.status, detail=problem.detail)
    with_seq = item.update is not None and item.update.seq is not UNSET
    return ItemAnswer(
        job_id=job_id,
        status=204,
        result=UNSET if item.became.result in (None, "applied") else item.became.result,
        seq=item.became.seq or 0 if with_seq else UNSET,
        job_status=str(item.became.job_status) if with_seq else UNSET,
    )
