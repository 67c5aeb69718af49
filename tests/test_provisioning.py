"""`db setup` on a real MariaDB: what it makes, what it grants, and what names it takes."""

from collections.abc import Iterator

import pytest

from sha_daemon import provisioning
from sha_daemon.config import DatabaseSettings
from sha_daemon.identifiers import BadName, grant_pattern, local_user, quoted
from sha_daemon.mariadb import Link, connect

DATABASE = "setup_test"


@pytest.fixture
def link(empty_database: DatabaseSettings) -> Iterator[Link]:
    link = connect(empty_database, daemon=False)
    yield link
    link.execute(f"DROP DATABASE IF EXISTS {DATABASE}")
    link.execute("DROP USER IF EXISTS 'sha-test'@localhost")
    link.close()


def test_a_new_server_gets_database_user_and_grants(link: Link) -> None:
    done = provisioning.provision(link, DATABASE, "sha-test")
    assert done == provisioning.Provisioned(made_database=True, made_user=True, plugin="unix_socket")
    grants = [row[0] for row in link.rows("SHOW GRANTS FOR 'sha-test'@localhost")]
    assert grants == [
        "GRANT USAGE ON *.* TO `sha-test`@`localhost` IDENTIFIED VIA unix_socket",
        r"GRANT SELECT, INSERT, UPDATE, DELETE ON `setup\_test`.* TO `sha-test`@`localhost`",
    ]


def test_a_second_setup_changes_nothing(link: Link) -> None:
    provisioning.provision(link, DATABASE, "sha-test")
    done = provisioning.provision(link, DATABASE, "sha-test")
    assert done == provisioning.Provisioned(made_database=False, made_user=False, plugin="unix_socket")


def test_a_user_known_by_a_password_keeps_it_and_that_is_told(link: Link) -> None:
    link.execute("CREATE USER 'sha-test'@localhost IDENTIFIED VIA mysql_native_password USING PASSWORD('x')")
    assert provisioning.provision(link, DATABASE, "sha-test").plugin == "mysql_native_password"


def test_the_database_takes_any_text(link: Link) -> None:
    provisioning.provision(link, DATABASE, "sha-test")
    found = link.rows(
        "SELECT default_character_set_name FROM information_schema.schemata WHERE schema_name = %s", DATABASE
    )
    assert found[0][0] == "utf8mb4"


@pytest.mark.parametrize("name", ["", "a`b", "a'b", "a b", "a;b", "ä", "-a", "a" * 65, "a\n", "a%", "a\\"])
def test_a_name_that_could_break_out_of_its_quotes_is_refused(name: str) -> None:
    for use in (quoted, grant_pattern, local_user):
        with pytest.raises(BadName, match="cannot use"):
            use(name)


@pytest.mark.parametrize("name", ["migratekit_oma", "a", "A-1.b$", "a" * 64])
def test_ordinary_names_are_quoted(name: str) -> None:
    assert (quoted(name), local_user(name)) == (f"`{name}`", f"'{name}'@'localhost'")
