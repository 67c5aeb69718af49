"""Bodies in gzip and deflate: what comes out, and that nothing comes out of a bomb."""

import gzip
import re
import zlib

import pytest

from sha_daemon.content_encoding import unpacked
from sha_daemon.replies import Problem
from telemetry_common.contract import MAX_BODY_BYTES, ContractError

BODY = b'{"status":"running"}' * 20
RAW = zlib.compress(BODY, wbits=-15)


@pytest.mark.parametrize(
    ("encoding", "wire"),
    [
        ("", BODY),
        ("identity", BODY),
        ("gzip", gzip.compress(BODY)),
        (" GZIP ", gzip.compress(BODY)),
        ("x-gzip", gzip.compress(BODY)),
        ("deflate", zlib.compress(BODY)),
    ],
)
def test_what_was_encoded_comes_out(encoding: str, wire: bytes) -> None:
    assert unpacked(wire, encoding) == BODY


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "gzip, gzip", "identity, gzip", "gzip;q=1", "\x1b[2J"])
def test_any_other_encoding_is_a_415_that_names_those_that_are_taken(encoding: str) -> None:
    with pytest.raises(Problem) as refused:
        unpacked(BODY, encoding)
    assert refused.value.status == 415
    assert refused.value.headers == {"Accept-Encoding": "gzip, deflate"}
    assert refused.value.detail.isprintable()


@pytest.mark.parametrize(
    ("encoding", "wire", "complaint"),
    [
        ("gzip", b"", "cut short"),
        ("gzip", gzip.compress(BODY)[:-1], "cut short"),
        ("gzip", gzip.compress(BODY)[:20], "cut short"),
        ("deflate", zlib.compress(BODY)[:-1], "cut short"),
        ("gzip", gzip.compress(BODY) + b"x", "something behind its end"),
        ("gzip", gzip.compress(BODY) + gzip.compress(BODY), "something behind its end"),
        ("deflate", zlib.compress(BODY) + b"\0", "something behind its end"),
        ("gzip", BODY, "is not gzip"),
        ("gzip", zlib.compress(BODY), "is not gzip"),
        ("deflate", gzip.compress(BODY), "is not deflate"),
        ("deflate", RAW, "is not deflate"),
        ("gzip", gzip.compress(BODY)[:-8] + bytes(8), "is not gzip"),
    ],
)
def test_what_is_damaged_is_refused(encoding: str, wire: bytes, complaint: str) -> None:
    with pytest.raises(ContractError, match=re.escape(complaint)):
        unpacked(wire, encoding)


def test_what_comes_out_may_be_as_long_as_a_body_and_no_longer() -> None:
    assert len(unpacked(gzip.compress(bytes(MAX_BODY_BYTES)), "gzip")) == MAX_BODY_BYTES
    with pytest.raises(Problem) as refused:
        unpacked(gzip.compress(bytes(MAX_BODY_BYTES + 1)), "gzip")
    assert refused.value.status == 413
