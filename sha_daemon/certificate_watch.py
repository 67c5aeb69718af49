"""The certificate's end in the journal: a warning a day while it comes near, and an error when it is there."""

import asyncio
import logging
from collections.abc import Callable

from sha_daemon.tls import Certificate
from sha_daemon.validity import DAY
from telemetry_common.logs import fields

log = logging.getLogger(__name__)

LOOK_SECONDS = 600.0
"""Between two looks; that much too late at most it is said that a certificate has expired."""


class CertificateWatch:
    def __init__(self, certificate: Certificate, wall: Callable[[], float]) -> None:
        self._certificate = certificate
        self._wall = wall
        self._objection = ""
        self._warned = 0.0

    async def run(self) -> None:
        """For ever."""
        while True:
            self.look()
            await asyncio.sleep(LOOK_SECONDS)

    def look(self) -> None:
        now, path, valid = self._wall(), self._certificate.path, self._certificate.validity
        objection, before = valid.objection(now), self._objection
        self._objection = objection
        if objection:
            if objection != before:
                log.error(fields("the certificate is served, and nobody trusts it", certificate=path, reason=objection))
        elif (warning := valid.warning(now)) and now - self._warned >= DAY:
            self._warned = now
            log.warning(fields("the certificate is to be renewed", certificate=path, reason=warning))
