"""The certificate's dates: read right, acted on in time, and said once a day."""

import datetime
import subprocess
from pathlib import Path

import pytest

from sha_daemon.certificate_watch import CertificateWatch
from sha_daemon.config import HubSettings, Tls
from sha_daemon.tls import Certificate
from sha_daemon.validity import DAY, Validity, validity
from telemetry_common.settings import SettingsError
from tests.support.certificates import Pair, authority, dated, server
from tests.support.front_door import front_door
from tests.support.virtual_clock import VirtualClock

NOON = 1_760_000_000.0


@pytest.fixture
def ca(tmp_path: Path) -> Pair:
    return authority(tmp_path)


@pytest.mark.parametrize("days", [-1, 1, 400, 20_000])
def test_the_dates_are_those_that_openssl_reads(tmp_path: Path, ca: Pair, days: int) -> None:
    """20,000 days from now the year needs four digits, and another type of time."""
    pem = dated(tmp_path, ca, "hub", days).certificate
    words = ["openssl", "x509", "-in", str(pem), "-noout", "-dates", "-dateopt", "iso_8601"]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    begins, ends = (
        datetime.datetime.fromisoformat(line.partition("=")[2].replace("Z", "+00:00")).timestamp()
        for line in said.splitlines()
    )
    assert validity(pem.read_text()) == Validity(begins, ends)


def test_of_a_chain_the_first_counts(tmp_path: Path, ca: Pair) -> None:
    own = dated(tmp_path, ca, "hub", 30).certificate.read_text()
    assert validity(own + ca.certificate.read_text()) == validity(own)


@pytest.mark.parametrize(
    "pem", ["", "words", "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----", "-----BEGIN CERTIFICATE-----"]
)
def test_what_is_no_certificate_has_no_dates(pem: str) -> None:
    with pytest.raises(ValueError, match="expected a certificate"):
        validity(pem)


@pytest.mark.parametrize(
    ("days", "objection", "warning"),
    [
        (-31, "it is not valid before 2025-10-09 08:53 UTC: is the clock right?", ""),
        (-0.1, "", ""),
        (15, "", ""),
        (17, "", "it expires on 2025-11-08 08:53 UTC, in 13 days"),
        (31, "it expired on 2025-11-08 08:53 UTC", "it expires on 2025-11-08 08:53 UTC, in 0 days"),
    ],
)
def test_what_is_said_depends_on_the_day(days: float, objection: str, warning: str) -> None:
    valid = Validity(NOON - DAY / 2, NOON + 30 * DAY)
    found = valid.objection(NOON + days * DAY), valid.warning(NOON + days * DAY)
    assert found == (objection.replace("2025-10-09 08:53", "2025-10-08 20:53"), warning)


class Year:
    """A hub whose certificate was made now, for so many days, and a clock to turn."""

    def __init__(self, directory: Path, ca: Pair, days: int) -> None:
        self._directory, self._ca = directory, ca
        pair = dated(directory, ca, "hub", days)
        self.clock = VirtualClock()
        self.certificate = Certificate(pair.certificate, pair.key, self.clock.wall)
        self.clock.stepped = self.certificate.validity.begins - self.clock.wall()
        self.watch = CertificateWatch(self.certificate, self.clock.wall)
        self._pair = pair

    def renew(self, days: int) -> None:
        new = dated(self._directory, self._ca, "new", days)
        new.certificate.rename(self._pair.certificate)
        new.key.rename(self._pair.key)

    def pass_days(self, days: float, looks: int) -> None:
        for _ in range(looks):
            self.clock.now += days * DAY / looks
            self.watch.look()


def test_the_journal_warns_daily_in_the_last_fortnight_and_once_of_the_end(
    tmp_path: Path, ca: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    year = Year(tmp_path, ca, days=90)
    year.pass_days(75, looks=100)
    assert caplog.records == []
    year.pass_days(14.9, looks=200)
    assert caplog.text.count("the certificate is to be renewed") == 14
    year.pass_days(10, looks=100)
    assert caplog.text.count("nobody trusts it") == 1


def test_a_reload_keeps_a_valid_certificate_before_an_expired_one(tmp_path: Path, ca: Pair) -> None:
    year = Year(tmp_path, ca, days=90)
    running = year.certificate.context
    year.renew(days=-1)
    year.clock.now += DAY / 2
    with pytest.raises(SettingsError, match="it expired on"):
        year.certificate.reload()
    assert year.certificate.context is running
    year.renew(days=60)
    year.certificate.reload()
    assert year.certificate.context is not running


def test_a_reload_takes_any_certificate_where_the_running_one_has_expired(tmp_path: Path, ca: Pair) -> None:
    year = Year(tmp_path, ca, days=-1)
    running = year.certificate.context
    year.clock.now += DAY / 2
    year.renew(days=-1)
    year.certificate.reload()
    assert year.certificate.context is not running


async def test_the_end_is_among_the_figures_for_prometheus(tmp_path: Path, ca: Pair) -> None:
    pair = server(tmp_path, ca)
    settings = HubSettings(tls=Tls(certificate=str(pair.certificate), key=str(pair.key)))
    async with front_door(settings) as door:
        assert door.connections.certificate_expires == validity(pair.certificate.read_text()).ends
    async with front_door() as door:
        assert door.connections.certificate_expires is None
