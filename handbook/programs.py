"""The programs that are installed, each with its parser; the configuration files, each with its keys."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

import sbc_daemon.config
import sbc_daemon.main
import sha_daemon.config
import sha_daemon.main
from handbook import commands
from handbook.commands import Command
from sbc_daemon import sbcctl
from sbc_daemon.report import command as sbc_report
from sha_daemon import shactl
from telemetry_common import daemon


@dataclass(frozen=True)
class Program:
    name: str
    section: int
    package: str
    summary: str
    parser: Callable[[], argparse.ArgumentParser]

    def command(self) -> Command:
        return commands.read(self.parser(), self.summary)


@dataclass(frozen=True)
class Configuration:
    """`name` is its man page in section 5."""

    name: str
    daemon: str
    prefix: str
    kind: type[msgspec.Struct]


PROGRAMS = (
    Program("sha-daemon", 8, "sha-daemon", "hub of backup telemetry", lambda: daemon.parser(sha_daemon.main.PROGRAM)),
    Program("shactl", 8, "sha-daemon", "look after the hub of backup telemetry", shactl.parser),
    Program(
        "sbc-daemon", 8, "sbc-daemon", "sidecar of backup telemetry", lambda: daemon.parser(sbc_daemon.main.PROGRAM)
    ),
    Program("sbcctl", 1, "sbc-daemon", "look at the sidecar of backup telemetry", sbcctl.parser),
    Program("sbc-report", 1, "sbc-daemon", "report how a backup goes", sbc_report.parser),
)
CONFIGURATIONS = (
    Configuration("sha-daemon.toml", "sha-daemon", sha_daemon.config.PREFIX, sha_daemon.config.HubSettings),
    Configuration("sbc-daemon.toml", "sbc-daemon", sbc_daemon.config.PREFIX, sbc_daemon.config.SidecarSettings),
)
