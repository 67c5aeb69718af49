"""Settings: where they come from, what wins, and that nothing wrong gets past the start."""

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from sbc_daemon.config import SidecarSettings
from sha_daemon.config import HubSettings, Listen, Service
from telemetry_common.settings import SettingsError, differing, load, shown, template

PACKAGING = Path(__file__).resolve().parent.parent / "packaging"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "conf.d").mkdir()
    return tmp_path / "config.toml"


def hub(config: Path, environ: dict[str, str] | None = None) -> HubSettings:
    return load(HubSettings, config, "SHA", environ or {})


def test_without_a_file_all_is_at_its_default(config: Path) -> None:
    assert hub(config) == HubSettings()


def test_a_drop_in_wins_over_the_file_and_a_later_one_over_an_earlier(config: Path) -> None:
    config.write_text('[database]\nname = "a"\nuser = "file"\n')
    (config.parent / "conf.d" / "20-b.toml").write_text('[database]\nname = "c"\n')
    (config.parent / "conf.d" / "10-a.toml").write_text('[database]\nname = "b"\n')
    found = hub(config).database
    assert (found.name, found.user) == ("c", "file")


def test_what_is_in_conf_d_but_no_toml_is_not_read(config: Path) -> None:
    (config.parent / "conf.d" / "10.toml.dpkg-old").write_text("this is not TOML")
    assert hub(config) == HubSettings()


@pytest.mark.parametrize("variable", ["SHA_SOCKET", "SHA_JOB_ID", "SHA_COMMIT", "SHA"])
def test_a_variable_of_somebody_else_that_begins_as_ours_is_not_ours(config: Path, variable: str) -> None:
    """SBC_SOCKET and SBC_JOB_ID are read by producers, and are no settings of the sidecar."""
    assert load(HubSettings, config, "SHA", {variable: "x"}) == load(HubSettings, config, "SHA", {})


def test_the_environment_wins_over_every_file(config: Path) -> None:
    config.write_text("[watchdog]\nwarn_seconds = 50\n")
    found = hub(config, {"SHA_WATCHDOG_WARN_SECONDS": "70", "SHA_DATABASE_NAME": "x", "SHATTER": "ignored"})
    assert (found.watchdog.warn_seconds, found.database.name) == (70.0, "x")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[listen]\nport = 1\n", "listen: unknown key `port`"),
        ("[lissten]\naddress = 'a:1'\n", "unknown key `lissten`"),
        ("[listen]\nmax_queue = 0\n", "listen.max_queue: Expected `int` >= 1"),
        ("[listen]\nmax_queue = 'many'\n", "listen.max_queue: Expected `int`"),
        (
            "[watchdog]\nnever_heard = 'ignore'\n",
            "watchdog.never_heard: Invalid enum value 'ignore', expected one of report, fail",
        ),
        ("[watchdog]\nwarn_seconds = 300\n", "watchdog: `warn_seconds` must be less than `fail_seconds`"),
        (
            "[tls]\ncertificate = '/etc/hub.crt'\n",
            "tls: `certificate` and `key` must both be given, or neither",
        ),
        ("[tls]\nkey = '/etc/hub.key'\n", "tls: `certificate` and `key` must both be given, or neither"),
        ("[access]\ntokens_file = 'tokens'\n", "access: `tokens_file` must be an absolute path, not 'tokens'"),
        ("[listen]\nallowed_hosts = ['hub:80']\n", "listen: `allowed_hosts` must be names or addresses without a port"),
        ("[listen]\nallowed_hosts = ['']\n", "listen: `allowed_hosts` must be names or addresses without a port"),
        ("[listen]\nallowed_hosts = 'hub'\n", "listen.allowed_hosts: Expected `array`, got `str`"),
        ("[listen]\npatience_seconds = 0\n", "listen.patience_seconds: Expected `float` > 0"),
        ("[database]\nname = 'a;b'\n", "database: `name` must be"),
        ("address = 'a:1'\n", "`address` stands outside of a [section]"),
        ("[listen\n", "not valid TOML"),
    ],
)
def test_a_wrong_file_stops_the_start_naming_the_key(config: Path, text: str, complaint: str) -> None:
    config.write_text(text)
    with pytest.raises(SettingsError, match=re.escape(complaint)):
        hub(config)


@pytest.mark.parametrize(
    ("variable", "text", "complaint"),
    [
        ("SHA_LISTEN_PORT", "1", "unknown variable SHA_LISTEN_PORT"),
        ("SHA_LISTEN_MAX_QUEUE", "many", "listen.max_queue: Expected `int`"),
    ],
)
def test_a_wrong_variable_stops_the_start_naming_it(config: Path, variable: str, text: str, complaint: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(complaint)):
        hub(config, {variable: text})


@pytest.mark.parametrize(
    ("variable", "text", "complaint"),
    [
        *(
            ("SBC_HUB_URL", url, "hub: `url` must be http://HOST[:PORT] or https://HOST[:PORT]")
            for url in (
                "",
                "hub:8082",
                "ftp://hub",
                "http://",
                "http://:80",
                "http://h:99999",
                "http://u:p@h",
                "http://h?x",
            )
        ),
        ("SBC_HUB_FALLBACK_URLS", "http://h,hub:80", "hub: `fallback_urls` must be http://HOST[:PORT] or https://"),
        ("SBC_HUB_FALLBACK_URLS", "http://h,http://h", "hub: `fallback_urls` must be other URLs than `url`, and each"),
        ("SBC_HUB_FALLBACK_URLS", "http://127.0.0.1:8082", "hub: `fallback_urls` must be other URLs than `url`"),
        ("SBC_HUB_FALLBACK_URLS", ",".join(f"http://h{n}" for n in range(8)), "hub.fallback_urls: Expected `array` of"),
        ("SBC_HUB_TOKEN_FILE", "hub.token", "hub: `token_file` must be an absolute path, not 'hub.token'"),
        ("SBC_HUB_CA_FILE", "ca.pem", "hub: `ca_file` must be an absolute path, not 'ca.pem'"),
        ("SBC_HUB_CA_FILE", "/etc/ca.pem", "hub: `ca_file` is given, but no URL is https://"),
        ("SBC_SOCKET_PATH", "progress.sock", "socket: `path` and `control` must be two different absolute paths"),
        ("SBC_SOCKET_CONTROL", "/run/sbc-daemon/progress.sock", "socket: `path` and `control` must be two different"),
        ("SBC_OUTBOX_DIRECTORY", "", "outbox: `directory` must be an absolute path"),
    ],
)
def test_the_sidecar_does_not_start_with_an_address_or_path_that_cannot_work(
    config: Path, variable: str, text: str, complaint: str
) -> None:
    with pytest.raises(SettingsError, match=re.escape(complaint)):
        load(SidecarSettings, config, "SBC", {variable: text})


@pytest.mark.parametrize("url", ["http://127.0.0.1:8082", "https://hub.example", "http://[::1]:80/", "http://h/tunnel"])
def test_an_address_of_a_hub_is_taken(config: Path, url: str) -> None:
    assert load(SidecarSettings, config, "SBC", {"SBC_HUB_URL": url}).hub.url == url


@pytest.mark.parametrize(
    ("text", "hosts"),
    [("", ()), ("hub.example", ("hub.example",)), (" a.example, [fd00::1] ,", ("a.example", "[fd00::1]"))],
)
def test_a_list_in_a_variable_has_commas_between_its_items(config: Path, text: str, hosts: tuple[str, ...]) -> None:
    assert hub(config, {"SHA_LISTEN_ALLOWED_HOSTS": text}).listen.allowed_hosts == hosts


@pytest.mark.parametrize(
    ("main", "drop_in", "environ", "complaint"),
    [
        ("[listen]\nadress = 'a:1'\n", "", {}, "unknown key `adress`; did you mean address? (from {main})"),
        ("", "[listen]\nmax_conections = 1\n", {}, "; did you mean max_connections? (from {drop_in})"),
        ("[lisen]\naddress = 'a:1'\n", "", {}, "unknown key `lisen`; did you mean listen? (from {main})"),
        ("[listen]\nport = 1\n", "", {}, "listen: unknown key `port` (from {main})"),
        ("[listen]\nmax_queue = 1\n", "[listen]\nmax_queue = 0\n", {}, ">= 1 (from {drop_in})"),
        ("[listen]\nmax_queue = 1\n", "", {"SHA_LISTEN_MAX_QUEUE": "x"}, "(from the environment)"),
        ("[tls]\nkey = '/k'\n", "[tls]\ncertificate = 'k'\n", {}, "(from {drop_in})"),
        (
            "[watchdog]\nwarn_seconds = 9\n",
            "[watchdog]\nfail_seconds = 8\n",
            {},
            "before it is failed (from {drop_in}, {main})",
        ),
        ("", "", {"SHA_LISTEN_ADRESS": "a:1"}, "unknown variable SHA_LISTEN_ADRESS; did you mean SHA_LISTEN_ADDRESS?"),
        ("", "", {"SHA_DATABSE_NAME": "x"}, "unknown variable SHA_DATABSE_NAME; did you mean SHA_DATABASE_NAME?"),
    ],
)
def test_a_complaint_says_where_the_key_came_from_and_what_may_have_been_meant(
    config: Path, main: str, drop_in: str, environ: dict[str, str], complaint: str
) -> None:
    other = config.parent / "conf.d" / "10.toml"
    config.write_text(main)
    other.write_text(drop_in)
    with pytest.raises(SettingsError, match=re.escape(complaint.format(main=config, drop_in=other))):
        hub(config, environ)


def test_settings_differ_by_the_keys_that_differ() -> None:
    one, other = HubSettings(), HubSettings(listen=Listen(max_queue=5), service=Service(log_level="debug"))
    assert differing(one, one) == []
    assert differing(one, other) == ["listen.max_queue", "service.log_level"]


def test_a_file_that_is_not_text_or_cannot_be_read_is_named(config: Path) -> None:
    config.write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match=re.escape(f"cannot read {config}")):
        hub(config)
    config.unlink()
    config.mkdir()
    with pytest.raises(SettingsError, match=re.escape(f"cannot read {config}")):
        hub(config)


@pytest.mark.parametrize("settings", [HubSettings(), SidecarSettings()])
def test_what_is_shown_can_be_read_again(settings: HubSettings | SidecarSettings) -> None:
    assert msgspec.convert(tomllib.loads(shown(settings)), type(settings)) == settings


@pytest.mark.parametrize(
    ("name", "kind"), [("sha-daemon", HubSettings), ("sbc-daemon", SidecarSettings)], ids=["hub", "sidecar"]
)
def test_the_shipped_file_is_what_the_code_says(name: str, kind: type[msgspec.Struct]) -> None:
    head, empty, rest = (PACKAGING / f"{name}.toml").read_text("utf-8").split("\n", 2)
    assert head.startswith(f"# The configuration of {name}")
    assert (empty, rest) == ("", template(kind))


@pytest.mark.parametrize("kind", [HubSettings, SidecarSettings], ids=["hub", "sidecar"])
def test_the_template_with_its_keys_uncommented_is_the_defaults(kind: type[msgspec.Struct]) -> None:
    uncommented = re.sub(r"^#(?! )", "", template(kind), flags=re.M)
    assert msgspec.convert(tomllib.loads(uncommented), kind) == kind()


@pytest.mark.parametrize("kind", [HubSettings, SidecarSettings], ids=["hub", "sidecar"])
def test_every_key_is_explained(kind: type[msgspec.Struct]) -> None:
    lines = template(kind).splitlines()
    keys = [number for number, line in enumerate(lines) if re.match(r"#\w+ = ", line)]
    assert keys
    assert all(lines[number - 1].startswith("# ") for number in keys)


def test_no_section_of_one_daemon_is_misread_as_a_variable_of_the_other(config: Path) -> None:
    both = {"SBC_HUB_URL": "http://h", "SHA_DATABASE_NAME": "x"}
    assert hub(config, both).database.name == "x"
    assert load(SidecarSettings, config, "SBC", both).hub.url == "http://h"
