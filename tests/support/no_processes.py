"""A world without processes to attach to."""

from sbc_daemon.processes import Peer, Process, Unattachable


class NoProcesses:
    def behind(self, peer: Peer) -> Process:
        raise Unattachable("there are no processes in this world")

    def named_by(self, pidfd: int) -> Process:
        raise Unattachable("there are no processes in this world")
