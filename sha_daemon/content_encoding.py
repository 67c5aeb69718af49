"""A body out of its Content-Encoding. Pure.

What comes out is bounded while it is inflated, not afterwards: a mebibyte of zeros takes a kilobyte on the wire, and a
gibibyte takes one mebibyte.
"""

import zlib
from collections.abc import Mapping

from sha_daemon.replies import Problem
from telemetry_common.contract import MAX_BODY_BYTES, ContractError
from telemetry_common.text import printable

WINDOW_BITS: Mapping[str, int] = {"gzip": 31, "x-gzip": 31, "deflate": 15}
"""As zlib takes them: they choose the format, too. `deflate` is that of RFC 9110: with zlib's head and checksum."""
TAKEN = "gzip, deflate"


def unpacked(body: bytes, encoding: str) -> bytes:
    """`body` as it was before `encoding`, the request's Content-Encoding.

    Raises Problem (415, 413) and ContractError for what is damaged, cut short, or has something behind its end.
    """
    chosen = encoding.strip().lower()
    if chosen in ("", "identity"):
        return body
    if chosen not in WINDOW_BITS:
        detail = f"Content-Encoding must be one of {TAKEN}, or absent, not '{printable(encoding)}'"
        raise Problem(415, detail, {"Accept-Encoding": TAKEN})
    return _inflated(body, chosen)


def _inflated(body: bytes, encoding: str) -> bytes:
    stream = zlib.decompressobj(WINDOW_BITS[encoding])
    try:
        plain = stream.decompress(body, MAX_BODY_BYTES + 1)
    except zlib.error:
        raise ContractError(f"the body is not {encoding}, as its Content-Encoding says") from None
    if len(plain) > MAX_BODY_BYTES:
        raise Problem(413, f"the body is over {MAX_BODY_BYTES} bytes when it is decompressed")
    if not stream.eof:
        raise ContractError(f"the body is cut short: its {encoding} does not come to an end")
    if stream.unused_data:
        raise ContractError(f"the body must be one {encoding} stream: there is something behind its end")
    return plain
