"""Why a hub is not taken for the hub: who is must have a certificate of a trusted CA, for the name in the URL."""

_NOT_YET_VALID, _EXPIRED, _OTHER_NAME, _OTHER_ADDRESS = 9, 10, 62, 64
"""X509_V_ERR_... of OpenSSL."""


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
