"""Who may do what over HTTP: the name by which the hub was called, then the token. Knows no HTTP library."""

from collections.abc import Mapping

from sha_daemon.hosts import Hosts
from sha_daemon.replies import Problem
from sha_daemon.tokens import Right, Token, Tokens, fingerprint
from telemetry_common.text import printable

_CHALLENGE = 'Bearer realm="telemetry"'


class Gate:
    """`tokens` None: no token is needed. Another set takes the place of the running one between two requests."""

    def __init__(self, hosts: Hosts | None = None, tokens: Tokens | None = None) -> None:
        self._hosts = hosts
        self.tokens = tokens
        self.refused = {421: 0, 401: 0, 403: 0}

    def admit(self, headers: Mapping[str, str], right: Right | None) -> None:
        """Pass a request that needs `right` (None: any may pass). `headers` find a name in any case.

        Raises Problem: 421 for a name that is not the hub's, 401 without a known token, 403 without the right.
        """
        try:
            if self._hosts is not None:
                _called_by_its_name(self._hosts, headers.get("Host"))
            if self.tokens is not None and right is not None:
                _has_right(_known(self.tokens, headers.get("Authorization", "")), right)
        except Problem as problem:
            self.refused[problem.status] += 1
            raise


def _called_by_its_name(hosts: Hosts, host: str | None) -> None:
    """No browser leaves the name out; who can (HTTP/1.0) was not sent here by a web page."""
    if host is not None and not hosts.admits(host):
        raise Problem(421, f"this hub is not '{printable(host)}'; listen.allowed_hosts has the names it answers to")


def _known(tokens: Tokens, authorization: str) -> Token:
    scheme, _, presented = authorization.partition(" ")
    if scheme.lower() != "bearer" or not presented:
        detail = "a token is needed: `Authorization: Bearer TOKEN`; `shactl token create` on the hub makes one"
        raise Problem(401, detail, {"WWW-Authenticate": _CHALLENGE})
    token = tokens.get(fingerprint(presented.strip()))
    if token is None:
        detail = "the hub does not know this token; it is wrong, or was taken out of access.tokens_file"
        raise Problem(401, detail, {"WWW-Authenticate": f'{_CHALLENGE}, error="invalid_token"'})
    return token


def _has_right(token: Token, right: Right) -> None:
    if right not in token.rights:
        detail = f"the token '{token.name}' has no right to {right}"
        headers = {"WWW-Authenticate": f'{_CHALLENGE}, error="insufficient_scope", scope="{right}"'}
        raise Problem(403, detail, headers)
