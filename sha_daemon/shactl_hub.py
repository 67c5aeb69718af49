"""The running hub as shactl asks it: where the settings say it listens, with its own certificate, with a token."""

import argparse
import os
import re
import ssl
from pathlib import Path

from sha_daemon.config import HubSettings
from sha_daemon.hub_client import HubClient
from telemetry_common.settings import SettingsError

VARIABLE = "SHACTL_TOKEN_FILE"
CERTIFICATE_VARIABLE = "SHACTL_CERTIFICATE"
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----")


def add_options(parser: argparse.ArgumentParser) -> None:
    """They are absent from what is parsed where they are not given: a command must not hide what stood before it."""
    parser.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        default=argparse.SUPPRESS,
        help=f"a token with the right to read, where the hub wants one (default: ${VARIABLE})",
    )
    parser.add_argument(
        "--certificate",
        type=Path,
        metavar="FILE",
        default=argparse.SUPPRESS,
        help=f"the hub's own certificate, to ask over TLS (default: ${CERTIFICATE_VARIABLE}, then tls.certificate)",
    )


def asked_hub(settings: HubSettings, chosen: argparse.Namespace) -> HubClient:
    """Raises SettingsError where a file cannot be used."""
    file = chosen.token_file or os.environ.get(VARIABLE)
    certificate = chosen.certificate or os.environ.get(CERTIFICATE_VARIABLE) or settings.tls.certificate
    return HubClient(
        settings.listen.address,
        token=_token(Path(file)) if file else None,
        tls=_trusting(Path(certificate)) if certificate else None,
    )


def _token(file: Path) -> str:
    token = _read(file).strip()
    if not token.isascii() or not token.isprintable() or not token or " " in token:
        raise SettingsError(f"cannot use {file}: expected a token and nothing else")
    return token


def _trusting(certificate: Path) -> ssl.SSLContext:
    """Of all certificates the hub's own only, whoever signed it; so by which name it is called does not matter."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    own = _PEM.search(_read(certificate))
    try:
        context.load_verify_locations(cadata=own[0] if own else "")
    except (ValueError, ssl.SSLError):
        raise SettingsError(f"cannot use {certificate}: expected a certificate in PEM") from None
    return context


def _read(file: Path) -> str:
    """Whatever bytes there are: what is expected of them is in ASCII."""
    try:
        return file.read_text("latin-1")
    except OSError as error:
        raise SettingsError(f"cannot read {file}: {error.strerror or error}") from None
