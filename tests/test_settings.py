"""Settings: flags win over the environment, that over the file, that over the defaults."""

import os
from pathlib import Path
from typing import Any

import pytest
from taskloom_server.settings import Settings, SettingsError, read_settings

# Of each setting: its default, and three other values in the form in which a file has them.
EXAMPLES: dict[str, tuple[Any, str, str, str]] = {
    "db": (Path("taskloom.db"), "file.db", "env.db", "flag.db"),
    "listen": ("127.0.0.1:50051", "127.0.0.1:1", "[::1]:2", "localhost:3"),
    "workflow_dir": (None, "file", "env", "flag"),
    "default_workflow": ("swarm", "file", "env", "flag"),
    "log_level": ("info", "debug", "warning", "error"),
    "log_format": ("auto", "json", "console", "auto"),
    "max_calls": (2_000, "1", "2", "3"),
    "max_watches": (10_000, "1", "2", "3"),
    "max_waits": (10_000, "3", "4", "5"),
    "max_queries": (4, "1", "2", "3"),
    "max_transfers": (64, "3", "4", "5"),
    "max_unread_mib": (512, "6", "7", "8"),
    "max_snapshot_mib": (4_096, "6", "7", "8"),
    "history_hours": (168.0, "1", "2.5", "24"),
    "history_revisions": (1_000_000, "10", "20", "30"),
    "weight_activity": (0.2, "0", "0.5", "1"),
    "weight_breakthrough": (0.3, "0", "0.5", "1"),
    "weight_silence": (0.1, "0", "0.5", "1"),
    "weight_boost": (0.5, "0", "0.25", "1"),
    "shutdown_grace_seconds": (5.0, "0", "0.5", "60"),
}
NAMES = list(EXAMPLES)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("TASKLOOM_"):
            monkeypatch.delenv(name)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Where the settings file of a test lies."""
    return tmp_path / "taskloom.yaml"


def refused(config: Path | None = None, **flags: Any) -> str:
    """What is said of settings that cannot be used."""
    with pytest.raises(SettingsError) as caught:
        read_settings(config, **flags)
    assert "\n" not in str(caught.value), "it is one sentence"
    return str(caught.value)


def as_set(name: str, text: str) -> Any:
    """A value as it is in the settings."""
    kind = type(EXAMPLES[name][0])
    return Path(text) if kind in (type(None), type(Path())) else kind(text)


def test_every_setting_is_here() -> None:
    """The examples speak of every setting that there is."""
    assert EXAMPLES.keys() == Settings.model_fields.keys()


@pytest.mark.parametrize("name", NAMES)
def test_who_wins(name: str, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flag beats the environment, the environment the file, the file the default."""
    default, in_file, in_env, in_flag = EXAMPLES[name]
    assert getattr(read_settings(), name) == default
    config.write_text(f"{name}: {in_file}")
    assert getattr(read_settings(config), name) == as_set(name, in_file)
    monkeypatch.setenv(f"TASKLOOM_{name.upper()}", in_env)
    assert getattr(read_settings(config), name) == as_set(name, in_env)
    assert getattr(read_settings(), name) == as_set(name, in_env)
    flags: dict[str, Any] = {name: in_flag}
    assert getattr(read_settings(config, **flags), name) == as_set(name, in_flag)


def test_each_source_adds_what_it_has(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings of all sources are in force together."""
    config.write_text("max_calls: 7\nmax_watches: 8\n")
    monkeypatch.setenv("TASKLOOM_LOG_LEVEL", "debug")
    settings = read_settings(config, listen="localhost:1")
    assert (settings.max_calls, settings.max_watches) == (7, 8)
    assert (settings.log_level, settings.listen) == ("debug", "localhost:1")
    assert settings.db == Path("taskloom.db")


@pytest.mark.parametrize("contents", ["", "# all as it is\n", "{}"])
def test_an_empty_file_sets_nothing(config: Path, contents: str) -> None:
    """A file without settings leaves the defaults."""
    config.write_text(contents)
    assert read_settings(config).model_dump() == read_settings().model_dump()


def test_a_file_is_for_one_reading(config: Path) -> None:
    """What a file said is forgotten when settings are read without it."""
    config.write_text("max_calls: 7")
    assert read_settings(config).max_calls == 7
    assert read_settings().max_calls == 2_000


WRONG = [
    ("listen", "50051"),
    ("listen", "localhost"),
    ("listen", ":50051"),
    ("listen", "localhost:"),
    ("listen", "localhost:http"),
    ("listen", "localhost:65536"),
    ("listen", "localhost:-1"),
    ("log_level", "loud"),
    ("log_format", "xml"),
    ("max_calls", "0"),
    ("max_calls", "many"),
    ("max_calls", "1.5"),
    ("max_watches", "-1"),
    ("shutdown_grace_seconds", "-0.1"),
    ("shutdown_grace_seconds", "soon"),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_wrong_value_is_named(
    name: str, value: str, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A value that cannot be is told with its setting and as it was given, whoever gave it."""
    flags: dict[str, Any] = {name: value}
    for said in (
        refused(**flags),
        _in_file(config, name, value),
        _in_env(monkeypatch, name, value),
    ):
        assert said.startswith(f"setting {name}: ")
        assert value in said


def _in_file(config: Path, name: str, value: str) -> str:
    config.write_text(f"{name}: '{value}'")
    return refused(config)


def _in_env(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> str:
    monkeypatch.setenv(f"TASKLOOM_{name.upper()}", value)
    return refused()


@pytest.mark.parametrize("value", ["127.0.0.1:0", "[::]:65535", "host.example:50051", "0.0.0.0:1"])
def test_addresses(value: str) -> None:
    """An address is a host and a port, with brackets around a host of IPv6."""
    assert read_settings(listen=value).listen == value


def test_a_setting_that_there_is_not(config: Path) -> None:
    """A misspelt setting is not passed over, neither in the file nor as a flag."""
    config.write_text("max_cals: 7")
    assert refused(config).startswith("setting max_cals: ")
    assert refused(dbs="x").startswith("setting dbs: ")


def test_a_file_that_is_not_there(config: Path) -> None:
    """A settings file that is named must be there, and be a file."""
    assert str(config) in refused(config)
    assert str(config.parent) in refused(config.parent)


@pytest.mark.parametrize(
    "contents",
    [
        b"- listen\n- db\n",
        b"listen",
        b"7",
        b"1: 2",
        b"listen: [",
        b"listen: 'x",
        b"db: \xff\xfe",
        b"\x00",
    ],
)
def test_a_file_that_is_no_settings_file(config: Path, contents: bytes) -> None:
    """What is not YAML, or names no settings, is told with the file's name."""
    config.write_bytes(contents)
    assert refused(config).startswith(f"{config}: ")
