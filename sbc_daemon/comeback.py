"""What an earlier daemon left in the descriptor store: taken up again, or closed and forgotten."""

import logging
import os
import socket
import stat
from collections.abc import Iterable, Sequence

from sbc_daemon import foreign
from sbc_daemon.app import Sidecar
from sbc_daemon.listener import Listener
from sbc_daemon.processes import PidfdProcesses, Unattachable
from sbc_daemon.survivor_records import ConnectionRecord, ProcessRecord, decoded
from telemetry_common.logs import fields
from telemetry_common.sockets import HandedOver

log = logging.getLogger(__name__)


def sorted_out(handed_over: Iterable[HandedOver]) -> tuple[list[HandedOver], list[HandedOver]]:
    """The sockets of units, which listen; and what was in the store."""
    units: list[HandedOver] = []
    stored: list[HandedOver] = []
    for one in handed_over:
        (units if _listens(one.descriptor) else stored).append(one)
    return units, stored


class Comeback:
    def __init__(self, sidecar: Sidecar, listener: Listener, processes: PidfdProcesses) -> None:
        self._sidecar = sidecar
        self._survivors = sidecar.survivors
        self._listener = listener
        self._processes = processes

    def take_up(self, stored: Sequence[HandedOver]) -> None:
        """Before the listener starts. What nobody knows is closed, and removed from the store."""
        taken = {one.name for one in stored if self._take_up_one(one)}
        for one in stored:
            if one.name not in taken:
                self._survivors.release(one.name)
        self._survivors.settle(taken)
        if stored:
            log.info(fields("producers taken over", descriptors=len(taken), unknown=len(stored) - len(taken)))

    def _take_up_one(self, one: HandedOver) -> bool:
        """False: it is closed, and nobody knows it any more."""
        kind = one.name.partition("-")[0]
        if self._survivors.possible and kind == "connection" and _is_socket(one.descriptor):
            return self._connection(one)
        if self._survivors.possible and kind == "process":
            return self._process(one)
        foreign.close(one.descriptor)
        return False

    def _connection(self, one: HandedOver) -> bool:
        """Of one without a record nothing was taken yet: it begins with its first byte. Not so where the outbox was
        lost: then it is closed after what can be read, and a library at the other end says everything again."""
        record = decoded(self._survivors.found(one.name), ConnectionRecord) or ConnectionRecord()
        connection = socket.socket(fileno=one.descriptor)
        self._listener.take_up(one.name, connection, record, self._survivors, last=self._sidecar.outbox_lost)
        return True

    def _process(self, one: HandedOver) -> bool:
        record = decoded(self._survivors.found(one.name), ProcessRecord)
        links = {} if record is None else record.links
        links = {job: link for job, link in links.items() if self._sidecar.intake.unfinished(job, link.share)}
        if record is None or not links:
            foreign.close(one.descriptor)
            return False
        try:
            process = self._processes.taken_over(record.pid, one.descriptor)
        except Unattachable as problem:
            log.warning(fields("jobs go on unattached", jobs=len(links), pid=record.pid, reason=problem))
            return False
        self._sidecar.attachments.take_up(one.name, process, links)
        return True


def _is_socket(descriptor: int) -> bool:
    return stat.S_ISSOCK(os.fstat(descriptor).st_mode)


def _listens(descriptor: int) -> bool:
    if not _is_socket(descriptor):
        return False
    looked_at = socket.socket(fileno=descriptor)
    try:
        return bool(looked_at.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    finally:
        looked_at.detach()
