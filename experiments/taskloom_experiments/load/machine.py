"""What figures were measured on: the machine, the versions, how durable a write is."""

import os
import platform
import subprocess
import tempfile
from importlib.metadata import version
from pathlib import Path

import apsw
from taskloom_server.store.connections import writing

_PACKAGES = ("taskloom", "grpcio", "protobuf", "apsw", "peewee")
_SYNCHRONOUS = {0: "OFF", 1: "NORMAL", 2: "FULL", 3: "EXTRA"}


def describe_machine() -> dict[str, str]:
    """Names and values, for people."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "memory": f"{memory:.0f} GiB",
        "system": platform.platform(),
        "load before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "Python": platform.python_version(),
        **{name: version(name) for name in _PACKAGES},
        "SQLite": apsw.sqlite_lib_version(),
        "durability": _durability(),
        "commit": _commit(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _durability() -> str:
    """The mode of the connection that writes, asked of one that is opened like it."""
    with tempfile.TemporaryDirectory() as folder:
        database = writing(Path(folder) / "durability.db")
        database.connect()
        try:
            connection = database.connection()
            mode = _SYNCHRONOUS[connection.pragma("synchronous")]
            return f"synchronous={mode}, journal_mode={connection.pragma('journal_mode').upper()}"
        finally:
            database.close()


def _commit() -> str:
    """Of the source that is measured; with a + where files differ from it."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=+"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return told.stdout.strip()
