"""Certificates for tests, made by openssl: a CA of our own, and servers that it vouches for."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

_CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
_LEAF = ("-addext", "basicConstraints=critical,CA:FALSE", "-addext", "subjectAltName=DNS:hub.example,IP:127.0.0.1")


@dataclass(frozen=True)
class Pair:
    certificate: Path
    key: Path


def authority(directory: Path) -> Pair:
    return _made(directory / "ca", "/CN=test CA", "-addext", "keyUsage=critical,keyCertSign")


def server(directory: Path, ca: Pair, name: str = "hub") -> Pair:
    """A server's certificate for 127.0.0.1 and hub.example, signed by `ca`; it counts from now on for a day."""
    return _made(directory / name, f"/CN={name}", *_LEAF, "-CA", str(ca.certificate), "-CAkey", str(ca.key))


def encrypted(pair: Pair) -> Path:
    """Its key with a passphrase."""
    path = pair.key.with_suffix(".encrypted")
    _openssl("pkey", "-in", str(pair.key), "-out", str(path), "-aes256", "-passout", "pass:secret")
    return path


def _made(path: Path, subject: str, *more: str) -> Pair:
    pair = Pair(path.with_suffix(".crt"), path.with_suffix(".key"))
    files = ("-keyout", str(pair.key), "-out", str(pair.certificate))
    _openssl("req", "-x509", *_CURVE, *files, "-days", "1", "-subj", subject, *more)
    return pair


def _openssl(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True, stdin=subprocess.DEVNULL)
