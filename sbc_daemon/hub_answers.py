"""What the hub answered, from bytes: the reason of a problem, the answers to a batch. No I/O, and no trust."""

from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Struct

from sbc_daemon.answers import Answer
from telemetry_common.text import printable


class _Item(Struct, frozen=True):
    """Of a batch: what a single post would have been answered."""

    status: int
    job_id: str | None = None
    result: str | None = None
    seq: int | None = None
    job_status: str | None = None
    detail: str = ""


_items = msgspec.json.Decoder(list[_Item])


def read_answer(status: int, headers: Mapping[str, str], content: bytes) -> Answer:
    """To one message, or to a batch as a whole."""
    return Answer(status=status, headers=headers, detail=_detail(content) if status != 204 else "")


def read_batch_answer(status: int, headers: Mapping[str, str], content: bytes, job_ids: Sequence[str]) -> Answer:
    """To a batch with messages of these jobs. Without `items` where they cannot be told apart beyond doubt."""
    items = _read_items(content, job_ids) if status == 200 else None
    if items is None:
        return read_answer(status, headers, content)
    return Answer(status=status, headers=headers, items=items)


def _read_items(content: bytes, job_ids: Sequence[str]) -> tuple[Answer, ...] | None:
    try:
        items = _items.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if len(items) != len(job_ids):
        return None
    if any(item.job_id not in (None, job_id) for item, job_id in zip(items, job_ids, strict=True)):
        return None
    return tuple(map(_as_if_alone, items))


def _as_if_alone(item: _Item) -> Answer:
    said = {
        "telemetry-result": item.result,
        "telemetry-seq": None if item.seq is None else str(item.seq),
        "telemetry-status": item.job_status,
    }
    headers = {name: value for name, value in said.items() if value is not None}
    return Answer(status=item.status, headers=headers, detail=printable(item.detail))


def _detail(content: bytes) -> str:
    """The hub's reason, from problem+json where it is that."""
    try:
        problem = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return printable(content.decode("utf-8", "replace"))
    detail = problem.get("detail") or problem.get("title") if isinstance(problem, dict) else problem
    return printable(str(detail or ""))
