"""Whom a daemon trusts when it is the one that connects over TLS."""

import ssl
from pathlib import Path

from telemetry_common.settings import SettingsError


def trusting(ca_file: str) -> ssl.SSLContext:
    """To trust the CAs in this file (PEM), or the system's where it is empty. Raises SettingsError.

    Made by hand: the standard library's default would also write session keys where SSLKEYLOGFILE says.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not ca_file:
        context.load_default_certs()
        return context
    try:
        context.load_verify_locations(cadata=Path(ca_file).read_text("ascii"))
    except (ssl.SSLError, ValueError) as error:
        reason = error.reason if isinstance(error, ssl.SSLError) and error.reason else "not PEM"
        why = reason.lower().replace("_", " ")
        raise SettingsError(f"cannot use {ca_file}: {why}; expected certificates of CAs, PEM") from None
    except OSError as error:
        raise SettingsError(f"cannot read {ca_file}: {error.strerror or error}") from None
    return context
