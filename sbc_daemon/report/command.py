"""The command line of `sbc-report`: arguments only. What they ask for is done in `wrapper` and `script`."""

import argparse
import os
import sys
from collections.abc import Sequence

from sbc_daemon.client import MAX_AMOUNT, MAX_DISK, MAX_ERROR_CHARACTERS, MAX_JOB_ID, MAX_PHASE
from sbc_daemon.client_wire import Fields
from sbc_daemon.report import wrapper
from sbc_daemon.report.process import complain
from sbc_daemon.report.script import report
from telemetry_common import __version__

ABOUT = """\
Tell the sidecar (sbc-daemon) how a backup goes; it brings that to the hub, whatever happens.

Around a tool:      sbc-report run --job backup-vm1-1 -- nbdcopy nbd://host/vm1 vm1.img
In a shell script:  export SBC_JOB_ID=backup-vm1-1
                    sbc-report start --total-bytes 5000000000
                    sbc-report progress 1000000000
                    sbc-report done
"""
PROMISE = """\
A backup never fails because of this command: if the sidecar is absent, stopped or refuses, it says so on stderr and
exits 0. Exit code 2 means a wrong command line. `run` returns the exit code of its command.

environment:
  SBC_JOB_ID   the job, where --job is not given
  SBC_SOCKET   the sidecar's socket, where --socket is not given (default /run/sbc-daemon/progress.sock)
"""
RUN = """\
Run COMMAND and report it as a job: running now, its progress, completed or failed when it ends.

nbdcopy and `qemu-img convert` are asked for their progress; of every other command its life and its end are reported.
COMMAND keeps its standard input, output and error, byte for byte, and gets SBC_JOB_ID and SBC_SOCKET, so that a
script can say more with the other subcommands. Signals sent to sbc-report are passed on to it, once.
"""
RUN_EXITS = """\
exit status: that of COMMAND; if a signal killed it, sbc-report dies by the same. 127: no such command. 126: it cannot
be executed. 124: stopped by --timeout, and it still returned 0. Only exit status 0 is reported as completed.

examples:
  sbc-report run --job backup-vm1-1 -- nbdcopy nbd+unix:///?socket=/run/vm1.sock /backup/vm1.img
  sbc-report run --job backup-vm1-1 --disk 0 --of 2 -- qemu-img convert -O qcow2 nbd://host/a a.qcow2
  sbc-report run --job backup-vm1-1 --timeout 7200 -- ./backup.sh
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code. Does not return where a wrapped command was killed by a signal."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    command: list[str] = []
    if words[:1] == ["run"] and "--" in words:
        at = words.index("--")
        words, command = words[:at], words[at + 1 :]
    top = parser()
    options = top.parse_args(words)
    if options.subcommand == "run":
        return _run(options, command, top)
    _say(options)
    return 0


def _run(options: argparse.Namespace, command: list[str], top: argparse.ArgumentParser) -> int:
    if not command:
        top.error("cannot tell what to run: put `-- COMMAND` behind the options")
    if (options.disk is None) != (options.of is None):
        top.error("cannot use --disk without --of, nor --of without --disk: the job ends with its last disk")
    if options.disk is not None and options.disk >= options.of:
        complain(f"disk {options.disk} of {options.of}: disks are usually counted from 0")
    orders = wrapper.Orders(
        command=command,
        job_id=options.job,
        socket=options.socket,
        disk=options.disk,
        of=options.of,
        total_bytes=options.total_bytes,
        timeout_seconds=options.timeout,
        phase=options.phase,
    )
    return wrapper.run(orders)


def _say(options: argparse.Namespace) -> None:
    if not options.job:
        complain("cannot report without a job: give --job or set SBC_JOB_ID; the script goes on")
        return
    if len(options.job) > MAX_JOB_ID:
        complain(f"cannot report: a job id has at most {MAX_JOB_ID} characters; the script goes on")
        return
    fields = {"job_id": options.job, **_fields(options)}
    starting = options.subcommand == "start"
    attach_pid = None if not starting or options.no_attach else options.pid or os.getppid()
    confirmed = options.subcommand in ("start", "fail", "done")
    report(fields, path=options.socket, attach_pid=attach_pid, confirmed=confirmed)


def _fields(options: argparse.Namespace) -> Fields:
    """What a subcommand says about the job; with --disk about that disk."""
    said: Fields = {}
    if options.subcommand in ("start", "phase") and options.phase is not None:
        said["current_phase"] = options.phase[:MAX_PHASE]
    if options.subcommand == "fail":
        said["error"] = {"message": options.message[:MAX_ERROR_CHARACTERS]}
        if options.code is not None:
            said["error"]["code"] = options.code[:MAX_PHASE]
    figures = _figures(options)
    status = {"start": "running", "fail": "failed", "done": "completed"}.get(options.subcommand)
    if status is not None:
        figures["status"] = status
    disk = getattr(options, "disk", None)
    return {**said, **(figures if disk is None else {"disks": {disk: figures}})}


def _figures(options: argparse.Namespace) -> Fields:
    given = {
        "bytes_transferred": getattr(options, "bytes", None),
        "progress_percent": getattr(options, "percent", None),
        "total_bytes": getattr(options, "total_bytes", None),
    }
    return {name: value for name, value in given.items() if value is not None}


def parser() -> argparse.ArgumentParser:
    plain = argparse.RawDescriptionHelpFormatter
    top = argparse.ArgumentParser("sbc-report", description=ABOUT, epilog=PROMISE, formatter_class=plain)
    top.add_argument("--version", action="version", version=f"sbc-report {__version__}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--job", metavar="ID", default=os.environ.get("SBC_JOB_ID"), help="the job (else SBC_JOB_ID)")
    common.add_argument("--socket", metavar="PATH", help="the sidecar's socket (else SBC_SOCKET, else the usual place)")
    names = top.add_subparsers(dest="subcommand", required=True, metavar="SUBCOMMAND")
    _add_run(
        names.add_parser(
            "run",
            parents=[common],
            help="run a command and report it",
            description=RUN,
            epilog=RUN_EXITS,
            formatter_class=plain,
            usage="sbc-report run [options] -- COMMAND [ARGUMENT ...]",
        )
    )
    _add_start(names.add_parser("start", parents=[common], help="the job is running from now on", description=START))
    phase = names.add_parser("phase", parents=[common], help="the job is now in this phase")
    phase.add_argument("phase", metavar="NAME", help="snapshot, transferring and finalizing are the usual ones")
    _add_progress(names.add_parser("progress", parents=[common], help="so much is done"))
    _add_ends(names, common)
    return top


START = (
    "The job is running from now on, and lives with the calling shell: if that ends without `done` or `fail`, "
    "the job is reported as failed. Where something stands between (sudo, a pipeline, $(...)), give --pid $$."
)


def _add_run(run: argparse.ArgumentParser) -> None:
    run.add_argument("--disk", metavar="INDEX", type=_disk, help="COMMAND copies this disk of the job (from 0)")
    run.add_argument("--of", metavar="N", type=_count, help="the job has so many disks and ends with the last of them")
    run.add_argument(
        "--total-bytes", metavar="N", type=_amount, help="size of the whole (else that of source or target)"
    )
    run.add_argument("--timeout", metavar="S", type=_seconds, help="after S seconds send TERM, 10 s later KILL; failed")
    run.add_argument("--phase", metavar="NAME", type=_phase, default="transferring", help="default: transferring")


def _add_start(start: argparse.ArgumentParser) -> None:
    start.add_argument("--total-bytes", metavar="N", type=_amount, help="size of the whole")
    start.add_argument("--phase", metavar="NAME", type=_phase, default="transferring", help="default: transferring")
    start.add_argument("--pid", metavar="PID", type=_pid, help="the process the job lives with (default: the caller)")
    start.add_argument("--no-attach", action="store_true", help="the job lives with no process")


def _add_progress(progress: argparse.ArgumentParser) -> None:
    progress.add_argument("bytes", metavar="BYTES", type=_amount, nargs="?", help="bytes transferred so far")
    progress.add_argument("--percent", metavar="P", type=_percent, help="for work whose size in bytes is unknown")
    progress.add_argument("--total-bytes", metavar="N", type=_amount, help="size of the whole")
    progress.add_argument("--disk", metavar="INDEX", type=_disk, help="these figures are of one disk")


def _add_ends(names: "argparse._SubParsersAction[argparse.ArgumentParser]", common: argparse.ArgumentParser) -> None:
    fail = names.add_parser("fail", parents=[common], help="the job has failed")
    fail.add_argument("message", metavar="MESSAGE", help="why")
    fail.add_argument("--code", metavar="CODE", help="a code that is shown behind the message")
    done = names.add_parser("done", parents=[common], help="the job is completed")
    done.add_argument("--bytes", metavar="BYTES", type=_amount, help="bytes transferred in all")


def _amount(text: str) -> int:
    return _whole(text, 0, MAX_AMOUNT)


def _disk(text: str) -> int:
    return _whole(text, 0, MAX_DISK)


def _count(text: str) -> int:
    return _whole(text, 1, MAX_DISK + 1)


def _pid(text: str) -> int:
    return _whole(text, 1, 2**31 - 1)


def _whole(text: str, least: int, most: int) -> int:
    if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
        raise argparse.ArgumentTypeError(f"expected a whole number from {least} to {most}, not {text!r}")
    return int(text)


def _percent(text: str) -> float:
    return _number(text, "a percentage from 0 up")


def _seconds(text: str) -> float:
    return _number(text, "a number of seconds from 0 up")


def _number(text: str, expected: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected {expected}, not {text!r}")
    return value


def _phase(text: str) -> str:
    if len(text) > MAX_PHASE:
        raise argparse.ArgumentTypeError(f"expected at most {MAX_PHASE} characters")
    return text


if __name__ == "__main__":
    sys.exit(main())
