"""A real backup on a client: nbdcopy under `sbc-report run`, from a disk whose speed can be set while it runs."""

from tests.appliance.node import Node

USER = "backup"
"""Debian's own user for this; it joins the group sbc, as the runbook says."""


class Backup:
    """`Backup(client, "job-1", 32)` starts it: 32 MiB of patterned data at a MiB each second."""

    def __init__(self, client: Node, job_id: str, mebibytes: int) -> None:
        self.client, self.job_id, self.size = client, job_id, mebibytes << 20
        self._place = f"/backup/{job_id}"
        client.sh(f"install -d -o {USER} -g {USER} /backup && install -d -o {USER} -g {USER} {self._place}")
        self._set_speed("8M")
        serve = "exec nbdkit -f --exit-with-parent -U disk.sock --filter=rate pattern"
        client.start_unit(
            f"disk-{job_id}", f"cd {self._place}; {serve} size={self.size} rate=8M rate-file=speed", user=USER
        )
        client.wait(f"test -S {self._place}/disk.sock")
        copy = "nbdcopy --connections=1 --requests=2 'nbd+unix:///?socket=disk.sock' target.img"
        script = f"cd {self._place}; sbc-report run --job {job_id} -- {copy}; echo $? > exit.new; mv exit.new exit"
        client.start_unit(f"backup-{job_id}", script, user=USER)

    def _set_speed(self, bits_per_second: str) -> None:
        self.client.sh(f"echo {bits_per_second} > {self._place}/speed && chmod 644 {self._place}/speed")

    def hurry(self) -> None:
        """The disk is as fast as it can be from now on."""
        self._set_speed("100G")

    def copied(self) -> int:
        """Bytes that are in the target: what the backup itself has done, whatever anybody was told of it."""
        blocks = self.client.sh(f"stat -c %b {self._place}/target.img 2>/dev/null || echo 0")
        return int(blocks) * 512

    def wait(self, seconds: float = 30) -> int:
        """The exit status of the whole, once it has ended."""
        self.client.wait(f"test -e {self._place}/exit", seconds)
        return int(self.client.sh(f"cat {self._place}/exit"))

    def is_whole(self) -> bool:
        """Byte for byte what the disk had."""
        again = f'nbdcopy "$uri" - | cmp - {self._place}/target.img'
        return self.client.try_run("nbdkit", "-U", "-", "pattern", f"size={self.size}", "--run", again).returncode == 0

    def pid(self) -> int:
        """Of the process that the sidecar holds the job by."""
        return int(self.client.sh(f"pgrep -u {USER} -f 'sbc-report run --job {self.job_id} '").split()[0])
