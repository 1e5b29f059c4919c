"""Settings: precedence, refusals that name the setting and its source."""

from pathlib import Path

import pytest

from assay.server.app.config import Config, ConfigError, is_loopback, load, split_address
from assay.server.app.server import edge_settings
from assay.server.rpc.auth import Role


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / "assay.toml"
        path.write_text(text)
        return path

    return write


def test_without_anything_the_defaults_hold():
    assert load({}, {}) == Config()
    assert Config().listen == "127.0.0.1:50051"
    assert Config(data_dir=Path("/d")).catalog == "sqlite:////d/catalog.db"


def test_flags_go_before_environment_before_file_before_defaults(file):
    path = file('listen = "127.0.0.1:1"\nlog_level = "error"\ndrain_seconds = 5\n')
    config = load({"listen": "127.0.0.1:3"}, {"ASSAY_LISTEN": "127.0.0.1:2", "ASSAY_LOG_LEVEL": "warning"}, path)
    assert (config.listen, config.log_level, config.drain_seconds) == ("127.0.0.1:3", "warning", 5.0)


def test_flags_that_are_not_given_do_not_count():
    assert load({"listen": None}, {"ASSAY_LISTEN": "127.0.0.1:2"}).listen == "127.0.0.1:2"


def test_the_environment_may_name_the_file(file):
    assert load({}, {"ASSAY_CONFIG": str(file("compute_queue = 7"))}).compute_queue == 7


def test_what_the_client_reads_is_no_setting_of_the_server():
    assert load({}, {"ASSAY_SERVER": "x", "ASSAY_API_KEY": "y", "HOME": "z"}) == Config()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("color = 1", ["color", "assay.toml"]),
        ("compute_queue = 'many'", ["compute_queue", "many", "assay.toml"]),
        ("compute_queue = true", ["compute_queue", "whole number"]),
        ("compute_queue = 1.5", ["compute_queue", "1.5"]),
        ("compute_queue = -1", ["compute_queue", "-1", "from 0"]),
        ("listen = 5", ["listen", "text"]),
        ("listen = '127.0.0.1'", ["listen", "HOST:PORT"]),
        ("listen = '127.0.0.1:99999'", ["listen", "HOST:PORT"]),
        ("log_level = 'loud'", ["log_level", "loud", "debug"]),
        ("drain_seconds = nan", ["drain_seconds", "nan"]),
        ("metrics_listen = '0.0.0.0:9000'", ["metrics_listen", "loopback"]),
        ("api_key_file = '/nowhere/keys'", ["api_key_file", "/nowhere/keys"]),
        ("tls_client_ca = '/nowhere/ca'", ["tls_client_ca"]),
        ("listen = ", ["TOML", "assay.toml"]),
    ],
)
def test_bad_settings_are_refused_by_name_and_source(file, text, named):
    with pytest.raises(ConfigError) as caught:
        load({}, {}, file(text))
    assert [part for part in named if part not in str(caught.value)] == []


@pytest.mark.parametrize(
    ("flags", "environment", "named"),
    [
        ({}, {"ASSAY_COLOUR": "1"}, "variable ASSAY_COLOUR"),
        ({}, {"ASSAY_COMPUTE_THREADS": "x"}, "variable ASSAY_COMPUTE_THREADS"),
        ({"log_format": "xml"}, {}, "flag --log-format"),
    ],
)
def test_the_source_is_named(flags, environment, named):
    with pytest.raises(ConfigError, match=named):
        load(flags, environment)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"gone\.toml"):
        load({}, {}, tmp_path / "gone.toml")


@pytest.fixture
def secrets(tmp_path):
    for name in ("cert", "key"):
        (tmp_path / name).write_text("PEM")
    (tmp_path / "keys").write_text("a" * 20)
    return {
        "tls_cert": str(tmp_path / "cert"),
        "tls_key": str(tmp_path / "key"),
        "api_key_file": str(tmp_path / "keys"),
    }


@pytest.mark.parametrize("listen", ["0.0.0.0:1", "[::]:1", "192.168.1.7:1", "example.org:1"])
def test_the_world_is_served_only_with_tls_and_a_key(secrets, listen):
    for left_out in ({"tls_cert", "tls_key"}, {"api_key_file"}, set(secrets)):
        given = {name: value for name, value in secrets.items() if name not in left_out}
        with pytest.raises(ConfigError, match="loopback"):
            load({"listen": listen, **given}, {})
    assert load({"listen": listen, **secrets}, {}).listen == listen
    del secrets["api_key_file"]
    assert load({"listen": listen, **secrets}, {"ASSAY_API_KEYS": "b" * 20}).listen == listen


def test_a_certificate_needs_its_key(secrets):
    with pytest.raises(ConfigError, match="tls_key"):
        load({"tls_cert": secrets["tls_cert"]}, {})


@pytest.mark.parametrize("text", ["", "# nothing\n", "short\n"])
def test_a_key_file_holds_usable_keys(tmp_path, text):
    (tmp_path / "keys").write_text(text)
    with pytest.raises(ConfigError, match="api_key_file"):
        edge_settings(load({"api_key_file": str(tmp_path / "keys")}, {}), {})


def test_keys_come_from_the_environment_too():
    settings = edge_settings(Config(), {"ASSAY_API_KEYS": f"{'a' * 20} role=read\n{'b' * 20} role=mine"})
    assert len(settings.keys) == 2
    found = settings.keys.find("b" * 20)
    assert found is not None
    assert found.role is Role.MINE


@pytest.mark.parametrize("text", [" ", "# none", f"{'a' * 20} {'b' * 20}", "a" * 20])
def test_a_variable_that_gives_no_key_a_role_opens_nothing(text):
    """A server that takes it for no keys at all would let everybody do everything."""
    with pytest.raises(ConfigError, match="variable ASSAY_API_KEYS"):
        edge_settings(Config(), {"ASSAY_API_KEYS": text})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_is_known(host):
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "localhost.example.org", "", "127.0.0.1.nip.io"])
def test_everything_else_is_not_loopback(host):
    assert not is_loopback(host)


def test_addresses_are_split():
    assert split_address("[::1]:80") == ("::1", 80)
    for bad in ("", ":1", "a", "a:", "a:b", "a:-1"):
        with pytest.raises(ValueError, match="HOST:PORT"):
            split_address(bad)
