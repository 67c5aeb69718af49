"""The two machines of the story and what an operator does on them."""

import json
from pathlib import Path
from typing import Any

from tests.appliance import runbook
from tests.appliance.backup import USER
from tests.appliance.node import Node

DATABASE = "migratekit_oma"
SOCKET = "/run/sbc-daemon/progress.sock"
LIVE = Path(__file__).resolve().parents[1] / "fixtures" / "live_hub.sql"


class Machine:
    """A node with one of the daemons."""

    service = ""
    prefix = ""

    def __init__(self, node: Node) -> None:
        self.node = node

    def configure(self, name: str, text: str) -> None:
        """A drop-in, in effect at once."""
        self.node.write(f"/etc/{self.service}/conf.d/{name}.toml", text)
        self.node.sh(f"{self.service} --check && systemctl restart {self.service}")

    def tune_unit(self, name: str, text: str) -> None:
        """A drop-in of the service's unit, in effect at once."""
        self.node.write(f"/etc/systemd/system/{self.service}.service.d/{name}.conf", text)
        self.node.sh(f"systemctl daemon-reload && systemctl restart {self.service}")

    def unit(self, *properties: str) -> list[str]:
        """Values of the service's properties, as systemd has them."""
        wanted = [f"--property={name}" for name in properties]
        said = self.node.run("systemctl", "show", f"{self.service}.service", *wanted).splitlines()
        values = dict(line.split("=", 1) for line in said)
        return [values[name] for name in properties]

    def is_up(self) -> bool:
        return self.unit("ActiveState", "SubState") == ["active", "running"]

    def pid(self) -> int:
        return int(self.unit("MainPID")[0])

    def status_text(self) -> str:
        return self.unit("StatusText")[0]

    def journal(self) -> str:
        return self.node.journal(self.service)

    def wait_for_message(self, message: str, since: str, seconds: float = 20) -> float:
        """Until the journal has it, since a moment that `now` told; seconds that took."""
        return self.node.wait(f"journalctl -o cat -u {self.service} --since={since} | grep -qF -e '{message}'", seconds)

    def said(self, since: str, *options: str) -> list[str]:
        """What the journal has of it since then."""
        command = ["journalctl", "-o", "cat", "-u", self.service, f"--since={since}", *options]
        return self.node.run(*command).splitlines()

    def now(self) -> str:
        """By its clock, for the journal. A cursor would not do: with `-u` journalctl skips the line behind it."""
        return self.node.sh("date +@%s.%6N")


class Hub(Machine):
    service = "sha-daemon"
    reader: tuple[str, ...] = ()
    """What shactl is told besides, once the hub wants a token from its readers."""

    def sql(self, statement: str) -> str:
        """As MariaDB's own administrator."""
        return self.node.run("mariadb", "-N", DATABASE, stdin=statement)

    def create_job(self, job_id: str, disks: int = 0) -> None:
        self.node.run("shactl", "job", "create", job_id, "--vm", "vm1", "--disks", str(disks))

    def job(self, job_id: str) -> dict[str, Any]:
        """All that the hub shows of it."""
        found: dict[str, Any] = json.loads(self.node.run("shactl", *self.reader, "job", "show", job_id, "--json"))
        return found

    def wait_for_job(self, job_id: str, condition: str, seconds: float = 20) -> float:
        """Until its row fulfils an SQL condition, such as `status='running'`."""
        statement = f"SELECT 1 FROM backup_jobs WHERE id='{job_id}' AND ({condition})"
        try:
            return self.node.wait(f'mariadb -N {DATABASE} -e "{statement}" | grep -q 1', seconds)
        except AssertionError as error:
            row = self.sql(f"SELECT * FROM backup_jobs WHERE id='{job_id}'\\G")
            raise AssertionError(f"{error}\n{row}") from None

    def load_live_tables(self) -> None:
        """The database of a hub that has been in service, with data."""
        self.node.run("mariadb", "-e", f"CREATE DATABASE {DATABASE}")
        self.node.run("mariadb", DATABASE, stdin=LIVE.read_text("utf-8"))

    def watch_closely(self) -> None:
        """The watchdog fifteen times as quick: it warns after 4 s and gives up after 20."""
        self.configure("watchdog", "[watchdog]\ninterval_seconds = 0.5\nwarn_seconds = 4\nfail_seconds = 20\n")

    def open_to_network(self) -> None:
        """With TLS and tokens, by the runbook's own commands; tokens for `client` and a `reader` lie in /root."""
        self.node.write("/root/make-certificate", CERTIFICATE, 0o755)
        self.node.run("/root/make-certificate")
        self.node.sh(runbook.block("Open the hub to the network").splitlines()[0])
        self.node.sh("install -m 640 -g sha /root/hub.crt /root/hub.key /etc/sha-daemon/tls/")
        self.node.sh("install -m 640 -g sha /dev/null /etc/sha-daemon/tokens")
        for name, right in (("client", "report"), ("reader", "read")):
            self.add_token(name, right)
        self.node.sh(runbook.block("Open the hub to the network"))
        self.reader = ("--token-file", "/root/reader.token")

    def add_token(self, name: str, right: str) -> None:
        script = f"""
            shactl token create --name {name} --right {right} > /root/made
            grep '^{name} {right} sha256:' /root/made >> /etc/sha-daemon/tokens
            (umask 077; grep '^sbt_' /root/made > /root/{name}.token)
            rm /root/made"""
        self.node.sh(script)


class Client(Machine):
    service = "sbc-daemon"

    def let_report(self, user: str = USER) -> None:
        self.node.run("adduser", "--quiet", user, "sbc")

    def connect(self, hub: Hub) -> None:
        """To a hub on the network, by the runbook's own commands."""
        self.node.write("/root/ca.crt", hub.node.sh("cat /root/ca.crt") + "\n")
        script = runbook.block("The client's side").replace("sbcctl send", "true || sbcctl send")
        first, rest = script.split("cat >", 1)
        self.node.sh(first.replace("ca.crt /etc", "/root/ca.crt /etc"))
        self.node.sh("cat > /etc/sbc-daemon/hub.token", stdin=hub.node.sh("cat /root/client.token") + "\n")
        self.node.sh(f"cat >{rest}")

    def hurry(self) -> None:
        """Fifteen times as quick as by default."""
        self.configure("hurry", "[cadence]\ninterval_seconds = 0.33\n[hub]\ntimeout_seconds = 1\n")

    def report(self, line: str, user: str = USER) -> str:
        """One line to the progress socket, by netcat; what came back."""
        return self.node.sh(f"nc -U -q0 -W1 {SOCKET}", user=user, stdin=f"{line}\n")

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.node.try_run("sbcctl", "status", "--json").stdout)
        return found


CERTIFICATE = """#!/bin/bash
# A CA of its own and a certificate for the name of this machine.
set -eu
cd /root
new() { openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes "$@" 2>/dev/null; }
new -x509 -keyout ca.key -out ca.crt -subj /CN=ca -days 30
new -keyout hub.key -out hub.csr -subj /CN=hub
printf 'subjectAltName=DNS:hub\\nextendedKeyUsage=serverAuth\\n' > extra
openssl x509 -req -in hub.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out hub.crt -days 30 -extfile extra 2>/dev/null
"""
