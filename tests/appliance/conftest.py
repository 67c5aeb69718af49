"""A booted pair of machines for the lines of the story that share one."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.appliance import needs, roots
from tests.appliance.debs import Debs, built
from tests.appliance.lab import Lab
from tests.appliance.machines import Client, Hub
from tests.appliance.measured import Measured


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--suite", choices=roots.SUITES, help="the story on this Debian only")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "debian" in metafunc.fixturenames:
        only = metafunc.config.getoption("--suite", None)
        metafunc.parametrize("debian", [only] if only else roots.SUITES, scope="session")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each line has minutes at most; where systems cannot be booted it says what is missing."""
    missing = needs.missing()
    for item in items:
        if "tests/appliance/" in str(item.path):
            item.add_marker(pytest.mark.timeout(240))
            if missing:
                item.add_marker(pytest.mark.skip(reason=missing))


@pytest.fixture(scope="session")
def measured(debian: str) -> Iterator[Measured]:
    figures = Measured(debian)
    yield figures
    figures.keep()


@pytest.fixture(scope="session")
def current() -> Debs:
    return built("current")


@pytest.fixture(scope="session")
def following() -> Debs:
    """The next version."""
    return built("next")


@pytest.fixture(scope="module")
def lab(debian: str) -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


@dataclass(frozen=True)
class Pair:
    lab: Lab
    hub: Hub
    client: Client


@pytest.fixture(scope="module")
def bare(lab: Lab, debian: str, current: Debs) -> Pair:
    """Both packages installed, as they come."""
    root = roots.root(debian)
    hub = Hub(lab.boot("hub", root))
    client = Client(lab.boot("client", root, mask=("mariadb.service",)))
    hub.node.install(current.hub)
    client.node.install(current.sidecar)
    client.let_report()
    return Pair(lab, hub, client)


@pytest.fixture(scope="module")
def pair(bare: Pair) -> Pair:
    """A hub that is open to the network and a client that reports to it, both fifteen times as quick as by default."""
    bare.hub.open_to_network()
    bare.hub.watch_closely()
    bare.client.connect(bare.hub)
    bare.client.hurry()
    return bare
