"""``taskloom soak``: what it tells of a server that grows and of one that does not, and its end."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from taskloom_experiments.load.commands import soak_command
from taskloom_experiments.load.soak import Sample, SoakSettings, figures

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="processes are read from /proc")
MIB = 1 << 20
HOUR = SoakSettings()


def _samples(growth: str = "", each_minute: float = 0) -> list[Sample]:
    """Of an hour in which nothing grows but one thing, if any."""
    samples = []
    for number in range(1, 361):
        values = {
            "memory": 100 * MIB,
            "untrimmed": 110 * MIB,
            "descriptors": 50,
            "threads": 20,
            "database": 20 * MIB,
            "answers": number * 1000,
            "wal": 16 * MIB,
            "media_files": 1,
            "rounds": number * 100,
        }
        if growth:
            values[growth] += int(each_minute * number / 6)
        samples.append(Sample(at_s=10.0 * number, **values))
    return samples


def _missed(samples: list[Sample]) -> list[str]:
    return [figure.name for figure in figures(HOUR, samples) if figure.met is False]


def test_what_does_not_grow_meets_all_bars() -> None:
    """A server that is the same after an hour misses no bar, though its answers are kept."""
    found = figures(HOUR, _samples())
    assert [figure.met for figure in found].count(True) == 6
    assert not _missed(_samples())


@pytest.mark.parametrize(
    ("growth", "each_minute", "missed"),
    [
        ("memory", MIB / 2, "memory / at the mark"),
        ("descriptors", 1, "file descriptors, more than at the mark"),
        ("threads", 0.2, "threads, more than at the mark"),
        ("media_files", 0.2, "contents in files, more than at the mark"),
        ("database", MIB / 8, "database without answers / at the mark"),
        ("wal", MIB, "WAL, the most"),
    ],
)
def test_what_grows_misses_its_bar(growth: str, each_minute: float, missed: str) -> None:
    """Slow growth of any one thing is found within the hour, and is called by its name."""
    assert _missed(_samples(growth, each_minute)) == [missed]


def test_a_soak_that_has_just_begun_compares_nothing() -> None:
    """As long as the mark is not passed there are sizes, and nothing that could be missed."""
    names = [figure.name for figure in figures(HOUR, _samples()[:20])]
    assert "memory at the end" in names
    assert not any("at the mark" in name for name in names)


@linux_only
def test_a_bar_that_is_missed_is_the_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """1 where something grew, with a report of it; all that was seen is in the JSON."""
    monkeypatch.setattr("taskloom_experiments.load.soak.WAL_LIMIT", 1)
    settings = SoakSettings(seconds=2, every_s=0.4, rest_s=0.4)
    assert soak_command(tmp_path, settings) == 1

    assert "WAL, the most" in capsys.readouterr().out
    (measured,) = json.loads((tmp_path / "bench.json").read_text())["measured"]
    (wal,) = [one for one in measured["figures"] if one["name"] == "WAL, the most"]
    assert wal["met"] is False
    assert all(len(curve["points"]) >= 4 for curve in measured["curves"])


@pytest.fixture
def started(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """A soak that has begun, and would take an hour."""
    command = [
        *(sys.executable, "-m", "taskloom_client", "soak", "--every", "0.5"),
        *("--output", str(tmp_path)),
    ]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    yield process
    if process.poll() is None:
        process.kill()
    process.communicate()


@linux_only
def test_interrupted_soak_leaves_a_report_and_no_processes(
    started: "subprocess.Popen[str]", tmp_path: Path
) -> None:
    """SIGINT: what was seen until then is told, the exit code is 130, all processes are gone."""
    assert started.stderr is not None
    assert "soak" in started.stderr.read(6)  # the first sample
    started.send_signal(signal.SIGINT)
    out, err = started.communicate(timeout=60)

    assert started.returncode == 130
    assert "interrupted by SIGINT" in err
    assert "memory at the end" in out
    assert {"bench.json", "bench.md"} <= {file.name for file in tmp_path.iterdir()}
    assert not list(tmp_path.glob(".soak-*"))
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert os.fsencode(tmp_path) not in process.read_bytes()
        except OSError:
            continue  # gone
