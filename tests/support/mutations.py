"""Bodies that no sender would send, made from those that senders do send. The same seed gives the same bodies."""

import random
import re
from collections.abc import Callable, Sequence

TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?|true|false|null|[{}\[\],:]')
PUNCTUATION = (b"{", b"}", b"[", b"]", b",", b":")

NASTY = (
    *(b"null", b"true", b"false", b'""', b"{}", b"[]", b"[[]]", b'{"message":"x"}', b"NaN", b"Infinity", b"-Infinity"),
    *(b"0", b"-0", b"-0.0", b"-1", b"0.1", b"1e3", b"1E400", b"1e-400", b"-1e400", b"01", b"+1", b"1.", b".5", b"0x10"),
    *(b"2147483648", b"4611686018427387905", b"9223372036854775807", b"9223372036854775808", b"18446744073709551616"),
    *(b"9007199254740993", b"1" + b"0" * 400, b"0." + b"3" * 400, b'"1"', b'"running"', b'"RUNNING"', b'"\\u0000"'),
    *(b'"\\ud800"', b'"\\udc00\\ud800"', b'"\\x"', b'"\x00"', b'"\x7f"', b'"\xff"', b'"\xc0\x80"', b'"\xed\xa0\x80"'),
    *('"\N{PILE OF POO}"'.encode(), '"\N{RIGHT-TO-LEFT OVERRIDE}"'.encode(), b'"' + b"a" * 51 + b'"'),
    *(b'"\'; DROP TABLE backup_jobs; -- "', b'"' + b"e" * 70_000 + b'"', b'"\\u' + b'd83d\\ude00"' * 2),
    *(b'"9999-12-31T23:59:59Z"', b'"2016-12-31T23:59:60Z"', b'"0001-01-01T00:00:00+23:59"', b'"2025-13-01T00:00:00Z"'),
)
"""In place of a value: other types, the ends of ranges and beyond, what is no JSON, what is no text."""

Mutation = Callable[[random.Random, bytes], bytes]


class Mutator:
    """`body` gives the next one, from one to three mutations of an original."""

    def __init__(self, originals: Sequence[bytes], seed: int) -> None:
        self._originals = originals
        self._random = random.Random(seed)

    def body(self) -> bytes:
        body = self._random.choice(self._originals) if self._random.random() < 0.95 else self._splice()
        for _ in range(self._random.choice((1, 1, 2, 3))):
            body = self._random.choices(MUTATIONS, WEIGHTS)[0](self._random, body)
        return body

    def _splice(self) -> bytes:
        """The beginning of one and the end of another."""
        one, other = self._random.choice(self._originals), self._random.choice(self._originals)
        return one[: self._random.randint(0, len(one))] + other[self._random.randint(0, len(other)) :]


def garbled(r: random.Random, request: bytes) -> bytes:
    """Bytes that are hardly a request any more."""
    for _ in range(r.choice((1, 1, 2))):
        request = r.choice((_flip, _hole, _noise, _repeat, _cut))(r, request)
    return request


def _value(r: random.Random, body: bytes) -> bytes:
    """Another value of the same kind, legal as far as it goes: such a body reaches the rules and the rows."""
    return _replaced(r, body, lambda token: _plausible(r, token))


def _plausible(r: random.Random, token: bytes) -> bytes:
    if token[:1] != b'"':
        return str(r.choice((r.randint(0, 200), r.getrandbits(r.randint(1, 62)), round(r.uniform(0, 120), 3)))).encode()
    return r.choice((b'"pending"', b'"running"', b'"running"', b'"transferring"', b'"completed"', b'"failed"', token))


def _nasty(r: random.Random, body: bytes) -> bytes:
    return _replaced(r, body, lambda _: r.choice(NASTY))


def _replaced(r: random.Random, body: bytes, new: Callable[[bytes], bytes]) -> bytes:
    """One value (or, rarely, a key: they look alike) replaced."""
    places = [found for found in TOKEN.finditer(body) if found[0] not in PUNCTUATION]
    values = [found for found in places if body[found.end() : found.end() + 1] != b":"]
    if not places:
        return body
    at = r.choice(values if values and r.random() < 0.9 else places)
    return body[: at.start()] + new(at[0]) + body[at.end() :]


def _flip(r: random.Random, body: bytes) -> bytes:
    changed = bytearray(body)
    for _ in range(r.randint(1, 8) if changed else 0):
        changed[r.randrange(len(changed))] ^= 1 << r.randrange(8)
    return bytes(changed)


def _cut(r: random.Random, body: bytes) -> bytes:
    return body[: r.randint(0, len(body))]


def _hole(r: random.Random, body: bytes) -> bytes:
    start = r.randint(0, len(body))
    return body[:start] + body[start + r.randint(1, 20) :]


def _noise(r: random.Random, body: bytes) -> bytes:
    place = r.randint(0, len(body))
    return body[:place] + r.randbytes(r.randint(1, 20)) + body[place:]


def _repeat(r: random.Random, body: bytes) -> bytes:
    start = r.randint(0, len(body))
    end = min(len(body), start + r.randint(1, 60))
    return body[:start] + body[start:end] * r.choice((2, 3, 50)) + body[end:]


def _twice(r: random.Random, body: bytes) -> bytes:
    """A key that is there twice, before or behind the real one."""
    key = r.choice((b"status", b"seq", b"disks", b"bytes_transferred", b"job_id", b"error", b"x"))
    pair = b'"' + key + b'":' + r.choice(NASTY)
    return b"{" + pair + b"," + body[1:] if r.random() < 0.5 else body[:-1] + b"," + pair + b"}"


def _deep(r: random.Random, body: bytes) -> bytes:
    depth = r.choice((3, 100, 5_000))
    opening, closing = r.choice(((b"[", b"]"), (b'{"x":', b"}")))
    return _replaced(r, body, lambda token: opening * depth + token + closing * depth)


def _disks(r: random.Random, body: bytes) -> bytes:
    """Many disks, now and then more than any message may have, or one of them twice."""
    indices = r.sample(range(66_000), r.choice((2, 2, 2, 40, 40, 1_100)))
    disks = b",".join(b'{"disk_index":%d,"bytes_transferred":%d}' % (n, r.getrandbits(40)) for n in indices)
    return body[:-1] + b',"disks":[' + disks + r.choice((b"", b"", b',{"disk_index":%d}' % indices[0])) + b"]}"


def _blanks(r: random.Random, body: bytes) -> bytes:
    return TOKEN.sub(lambda token: token[0] + r.choice((b"", b" ", b"\n\t", b"\r\n", b"\x0b", b"\xc2\xa0")), body)


MUTATIONS: tuple[Mutation, ...] = (_value, _nasty, _flip, _cut, _hole, _noise, _repeat, _twice, _deep, _disks, _blanks)
WEIGHTS = (60, 20, 8, 3, 5, 5, 4, 6, 1, 2, 1)
