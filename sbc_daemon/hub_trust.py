"""Whom the sidecar takes for its hub: who has a certificate of a trusted CA, for the name in the URL. Always."""

import ssl
from pathlib import Path

from telemetry_common.settings import SettingsError

_NOT_YET_VALID, _EXPIRED, _OTHER_NAME, _OTHER_ADDRESS = 9, 10, 62, 64
"""X509_V_ERR_... of OpenSSL."""


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


def distrust(error: Exception, host: str) -> str:
    """Why the certificate of `host` is not taken, for the operator."""
    code, words = getattr(error, "verify_code", 0), getattr(error, "verify_message", "") or str(error)
    reasons = {
        _NOT_YET_VALID: "it is not valid yet; is this machine's clock right?",
        _EXPIRED: "it has expired; is this machine's clock right?",
        _OTHER_NAME: f"it is not for {host}, the name in the hub's URL",
        _OTHER_ADDRESS: f"it is not for {host}, the address in the hub's URL",
    }
    reason = reasons.get(code, f"{words}; hub.ca_file names the CA to trust")
    return f"the hub's certificate is not trusted: {reason}"


def no_tls(error: Exception) -> str:
    """Why there was no handshake, for the operator."""
    words = (getattr(error, "reason", None) or str(error)).lower().replace("_", " ")
    return f"no TLS with the hub: {words}; is it https that it speaks there?"
