"""The command line of this directory; see `tests.appliance`."""

import argparse
import os
import subprocess
import sys
import threading
import time

from tests.appliance import measured, needs, roots
from tests.appliance.debs import PROJECT, VERSIONS, built
from tests.appliance.lab import Lab
from tests.appliance.node import ENVIRONMENT
from tests.appliance.telling import clock


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.appliance", description="Debian systems to try things on.")
    commands = parser.add_subparsers(dest="command", required=True)
    story = commands.add_parser("story", help="the operator's story on both Debians, side by side")
    story.add_argument("arguments", nargs="*", metavar="PYTEST_ARGUMENT", help="such as -- -k upgrade")
    commands.add_parser("build", help="the base roots and the packages, and nothing else")
    shell = commands.add_parser("shell", help="a shell in a booted system")
    shell.add_argument("suite", choices=roots.SUITES)
    shell.add_argument("--install", action="store_true", help="with both packages of the commit installed")
    options = parser.parse_args()
    if missing := needs.missing():
        print(f"appliance: {missing}; nothing was tried", file=sys.stderr)
        return 0 if options.command == "story" and os.geteuid() != 0 else 1
    if options.command == "shell":
        return look_around(options.suite, install=options.install)
    build()
    return tell(options.arguments) if options.command == "story" else 0


def build() -> None:
    for suite in roots.SUITES:
        roots.root(suite)
    for which in VERSIONS:
        built(which)


def tell(arguments: list[str]) -> int:
    """Each Debian by a pytest of its own: most of the story is waiting. 0 if nothing failed."""
    begun = time.monotonic()
    tellers = {suite: _start(suite, arguments) for suite in roots.SUITES}
    relays = [threading.Thread(target=_relay, args=teller) for teller in tellers.items()]
    for relay in relays:
        relay.start()
    for relay in relays:
        relay.join()
    failed = [suite for suite, teller in tellers.items() if teller.wait() != 0]
    print(f"\n{measured.table(roots.SUITES)}\n")
    verdict = f"it failed on {' and '.join(failed)}" if failed else "all of it on both Debians"
    print(f"appliance: the story took {clock(time.monotonic() - begun)}; {verdict}")
    return 1 if failed else 0


def _start(suite: str, arguments: list[str]) -> "subprocess.Popen[str]":
    measured.forget(suite)
    quiet = ["-qq", "--no-header", "--tb=short", "-p", "tests.appliance.telling", "-p", "no:cacheprovider"]
    only = ["--suite", suite]
    command = [sys.executable, "-m", "pytest", "tests/appliance", *only, *quiet, *arguments]
    return subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _relay(suite: str, teller: "subprocess.Popen[str]") -> None:
    width = max(map(len, roots.SUITES))
    for line in teller.stdout or ():
        if line.strip():
            print(f"{suite:{width}}  {line}", end="", flush=True)


def look_around(suite: str, *, install: bool) -> int:
    with Lab() as lab:
        node = lab.boot("node", roots.root(suite))
        if install:
            packages = built("current")
            node.install(packages.hub, packages.sidecar)
        settings = [f"{name}={value}" for name, value in ENVIRONMENT.items()]
        return subprocess.run(node.argv("env", "-i", *settings, "bash", "-l"), check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
