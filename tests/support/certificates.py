"""Certificates for tests, made by openssl: a CA of our own, and servers that it vouches for."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

_CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


@dataclass(frozen=True)
class Pair:
    certificate: Path
    key: Path


def authority(directory: Path) -> Pair:
    return _made(directory / "ca", "/CN=test CA", "-addext", "keyUsage=critical,keyCertSign")


def server(directory: Path, ca: Pair, name: str = "hub", names: str = "DNS:hub.example,IP:127.0.0.1") -> Pair:
    """A server's certificate, signed by `ca`; it counts from now on for a day."""
    leaf = ("-addext", "basicConstraints=critical,CA:FALSE", "-addext", f"subjectAltName={names}")
    return _made(directory / name, f"/CN={name}", *leaf, "-CA", str(ca.certificate), "-CAkey", str(ca.key))


def expired(directory: Path, ca: Pair) -> Pair:
    """One that ended as soon as it began."""
    pair = server(directory, ca, "expired")
    asked = directory / "expired.csr"
    names = ("-addext", "subjectAltName=DNS:hub.example,IP:127.0.0.1")
    _openssl("req", "-new", "-key", str(pair.key), "-out", str(asked), "-subj", "/CN=expired", *names)
    signed = ("-CA", str(ca.certificate), "-CAkey", str(ca.key), "-CAcreateserial", "-copy_extensions", "copy")
    _openssl("x509", "-req", "-in", str(asked), "-out", str(pair.certificate), *signed, "-days", "-1")
    return pair


def encrypted(pair: Pair) -> Path:
    """Its key with a passphrase."""
    path = pair.key.with_suffix(".encrypted")
    _openssl("pkey", "-in", str(pair.key), "-out", str(path), "-aes256", "-passout", "pass:secret")
    return path


def dated(directory: Path, ca: Pair, name: str, days: int) -> Pair:
    """A server's certificate that ends in so many days; it has ended where they are negative."""
    pair = server(directory, ca, name)
    asked = directory / f"{name}.csr"
    names = ("-addext", "subjectAltName=DNS:hub.example,IP:127.0.0.1")
    _openssl("req", "-new", "-key", str(pair.key), "-out", str(asked), "-subj", f"/CN={name}", *names)
    signed = ("-CA", str(ca.certificate), "-CAkey", str(ca.key), "-set_serial", "4242", "-copy_extensions", "copy")
    _openssl("x509", "-req", "-in", str(asked), "-out", str(pair.certificate), *signed, "-days", str(days))
    return pair


def _made(path: Path, subject: str, *more: str) -> Pair:
    pair = Pair(path.with_suffix(".crt"), path.with_suffix(".key"))
    files = ("-keyout", str(pair.key), "-out", str(pair.certificate))
    _openssl("req", "-x509", *_CURVE, *files, "-days", "1", "-subj", subject, *more)
    return pair


def _openssl(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True, stdin=subprocess.DEVNULL)
