"""The tokens that open the hub: one a line, hashed. Pure.

    # name      right    hash of the token
    client-7    report   sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae

Plain SHA-256 is enough: a token is 256 random bits, so there is no list of likely ones to try, which is all that a slow
or salted hash would defend against. A presented token is looked up by its hash: how long that takes tells nothing about
the stored hashes that could be used without inverting SHA-256.
"""

import hashlib
import re
from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

Right = Literal["report", "read"]
RIGHTS: Mapping[str, frozenset[Right]] = {
    "report": frozenset({"report"}),
    "read": frozenset({"read"}),
    "both": frozenset({"report", "read"}),
}
EXPECTED = f"NAME RIGHT sha256:HASH, where RIGHT is one of {', '.join(RIGHTS)}"
PREFIX = "sbt_"
"""What a token begins with, so that people and scanners for leaked secrets know one when they see it."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_HASH = re.compile(r"sha256:[0-9a-f]{64}")


class Token(Struct, frozen=True):
    name: str
    rights: frozenset[Right]


Tokens = Mapping[bytes, Token]
"""By the SHA-256 of the token."""


class BadTokens(ValueError):
    """Names the line and what was expected; never what stands there, which may be a secret in the wrong place."""


def fingerprint(token: str) -> bytes:
    """`token` as it came over HTTP, also with bytes that are no text."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def is_name(text: str) -> bool:
    """Letters, digits and `. _ @ -`, at most 64, the first a letter or digit."""
    return _NAME.fullmatch(text) is not None


def line(name: str, right: str, token: str) -> str:
    """What the file has of a token."""
    return f"{name} {right} sha256:{fingerprint(token).hex()}"


def parse(text: str) -> Tokens:
    """The tokens of a file; blank lines and those that begin with # say nothing. Raises BadTokens."""
    found: dict[bytes, Token] = {}
    names: set[str] = set()
    for number, content in enumerate(text.splitlines(), 1):
        words = content.split()
        if words and not words[0].startswith("#"):
            digest, token = _parsed(number, words)
            if digest in found or token.name in names:
                raise BadTokens(f"line {number}: expected a name and a token that no line above has")
            found[digest] = token
            names.add(token.name)
    if not found:
        raise BadTokens("there is no token in it, which would lock everybody out")
    return found


def _parsed(number: int, words: list[str]) -> tuple[bytes, Token]:
    if len(words) != 3:
        raise BadTokens(f"line {number}: expected {EXPECTED}")
    name, right, digest = words
    if not is_name(name):
        raise BadTokens(f"line {number}: NAME must be letters, digits and . _ @ -, at most 64; expected {EXPECTED}")
    if right not in RIGHTS or not _HASH.fullmatch(digest):
        raise BadTokens(f"line {number}: expected {EXPECTED}")
    return bytes.fromhex(digest.removeprefix("sha256:")), Token(name, RIGHTS[right])
