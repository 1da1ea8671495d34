"""Settings: flags first, then ``TASKLOOM_*``, then a YAML file, then these defaults."""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)

from taskloom_server.graph.temperature import Weights


class SettingsError(Exception):
    """A setting cannot be used; ``str()`` says which, and why."""


def _check_listen(value: str) -> str:
    host, colon, port = value.rpartition(":")
    if not (colon and host and port.isdigit() and int(port) < 65536):
        raise ValueError("must be HOST:PORT, such as 127.0.0.1:50051 or [::1]:50051")
    return value


class Settings(BaseSettings):
    """All that can be set. ``TASKLOOM_DB``, ``TASKLOOM_LISTEN`` and so on set the same."""

    model_config = SettingsConfigDict(env_prefix="TASKLOOM_", extra="forbid")

    db: Path = Path("taskloom.db")
    listen: Annotated[str, AfterValidator(_check_listen)] = "127.0.0.1:50051"
    workflow_dir: Path | None = None
    default_workflow: str = "swarm"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "console", "json"] = "auto"
    # Calls, watches, and claims that wait together with streams of work, at once: apart, so that
    # neither watches nor idle agents can keep claims out.
    max_calls: int = Field(default=2_000, ge=1)
    max_watches: int = Field(default=10_000, ge=1)
    max_waits: int = Field(default=10_000, ge=1)
    # Queries in SQL at once, each in a process of its own.
    max_queries: int = Field(default=4, ge=1)
    # Attachments that come and go as streams, at once: each takes some MiB of memory.
    max_transfers: int = Field(default=64, ge=1)
    # Large answers that their clients have not read yet, in MiB together, and likewise the states
    # with which watches begin.
    max_unread_mib: int = Field(default=512, ge=1)
    # A snapshot that comes, unpacked, in MiB: it is put into a file first.
    max_snapshot_mib: int = Field(default=4_096, ge=1)
    # How much of the history of events is kept for watches to start from: what is younger than
    # this, among so many of the latest revisions.
    history_hours: float = Field(default=168, gt=0)
    history_revisions: int = Field(default=1_000_000, ge=1)
    # What counts for how much in a task's temperature; silence is for a day of it.
    weight_activity: float = Field(default=0.2, ge=0, le=1)
    weight_breakthrough: float = Field(default=0.3, ge=0, le=1)
    weight_silence: float = Field(default=0.1, ge=0, le=1)
    weight_boost: float = Field(default=0.5, ge=0, le=1)
    # How long calls under way may take to end when the server stops.
    shutdown_grace_seconds: float = Field(default=5.0, ge=0)

    @property
    def weights(self) -> Weights:
        """What makes up a temperature."""
        return Weights(
            self.weight_activity,
            self.weight_breakthrough,
            self.weight_silence,
            self.weight_boost,
        )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, environment, file: the order in which they win."""
        return init_settings, env_settings, YamlConfigSettingsSource(settings_cls)


def _check_file(path: Path) -> None:
    """Raise SettingsError unless the file is YAML and names settings."""
    try:
        contents = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"{path}: {' '.join(str(error).split())}") from error
    if contents is None:
        return  # an empty file sets nothing
    if not isinstance(contents, dict) or not all(isinstance(name, str) for name in contents):
        raise SettingsError(f"{path}: must hold lines such as 'listen: 127.0.0.1:50051'")


def read_settings(config: Path | None = None, **flags: Any) -> Settings:
    """The settings in force. Raises SettingsError."""
    if config is not None and not config.is_file():
        raise SettingsError(f"there is no settings file {config}")

    if config is not None:
        _check_file(config)

    class FromFile(Settings):
        model_config = SettingsConfigDict(yaml_file=config)

    try:
        return FromFile(**flags)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"]) or "settings"
        message = first["msg"].removeprefix("Value error, ")
        raise SettingsError(f"setting {name}: {message} (got {first['input']!r})") from error
