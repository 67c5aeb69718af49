"""Which process `sbc-report start` was called by: the one whose life the job is to share. Reads /proc, nothing else."""

import os
from pathlib import Path

GO_BETWEENS = frozenset(
    {"chronic", "doas", "flock", "pkexec", "runuser", "strace", "su", "sudo", "time", "timeout", "xargs"}
)
"""Programs that stay between a script and a command that they run for it, and end with that command. Those that become
the command (env, nice, chrt) are not to be seen."""
KEEPERS = frozenset({"systemd", "init", "sshd", "sshd-session", "cron", "crond"})
"""Programs that start what no script has called. Their own life says nothing of the job's."""
_MOST_STEPS = 8


def calling_process() -> int | None:
    """The pid of the script; None where a service manager or a remote shell has started us itself."""
    pid = os.getppid()
    for _ in range(_MOST_STEPS):
        name, parent = _name_and_parent(pid)
        if name in KEEPERS or pid <= 0:
            return None
        if name not in GO_BETWEENS or parent <= 0:
            return pid
        pid = parent
    return pid


def _name_and_parent(pid: int) -> tuple[str, int]:
    """As /proc has them; an empty name and 0 where it may not be seen."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return "", 0
    # The name stands in parentheses and may contain some itself (proc_pid_stat(5)).
    name, _, rest = text.partition("(")[2].rpartition(")")
    return name, int(rest.split()[1])
