"""The doors to experiments: the command behind the CLI, and the scripts, as processes."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from taskloom_experiments import serving as serving_module
from taskloom_experiments.agent_settings import AgentSettings
from taskloom_experiments.commands import compare_command, run_command
from taskloom_experiments.database import run_query
from taskloom_experiments.definition_parts import KNOWN_CHARTS
from taskloom_experiments.pulls import PULLS
from taskloom_experiments.serving import serving

from tests import forked

SCRIPTS = Path(__file__).parents[2] / "experiments"
HOUR_MS = 3_600_000
NEVER_MS = 1_000_000 * HOUR_MS
SIMULATED: dict[str, Any] = {"simulate": True, "speed": None}
"""A run without processes, where it is not its making that is looked at."""


def write_template(file: Path, *, never: bool = False) -> Path:
    """Five tasks and one behind them all; on request, one that nobody lives to see the end of."""
    tasks: list[dict[str, Any]] = [
        {
            "id": f"task-{number}",
            "title": f"Task {number}",
            "status": "pending",
            "phase": "implement",
            "time_estimate_ms": NEVER_MS if never and number == 0 else HOUR_MS,
            "wanted_tags": ["coder"],
        }
        for number in range(6)
    ]
    dependencies = [
        {"from_task_id": f"task-{number}", "to_task_id": "task-5", "dep_type": "blocks"}
        for number in range(5)
    ]
    tables = {"tasks": tasks, "dependencies": dependencies}
    file.write_text(json.dumps({"schema_version": 3, "tables": tables}))
    return file


def write_definition(folder: Path, condition: str, *, never: bool = False) -> Path:
    """A definition of one run of one agent, with one required criterion."""
    write_template(folder / "template.json", never=never)
    file = folder / "definition.yaml"
    content = {
        "experiment": {"name": "small"},
        "workflow": "swarm",
        "template": "template.json",
        "runs": [{"name": "alone", "agents": 1, "agent_config": {"tags": ["coder"]}}],
        "success_criteria": [{"name": "it", "condition": condition, "required": True}],
    }
    file.write_text(yaml.safe_dump(content))
    return file


def run_definition(definition: Path | None, output: Path, **changes: Any) -> int:
    """``run_command`` as the CLI calls it, fast and without charts."""
    options: dict[str, Any] = {
        "speed": 72_000.0,
        "seed": 1,
        "pull": [],
        "runs": [],
        "template": None,
        "workflow": None,
        "agents": None,
        "timeout": None,
        "charts": False,
    }
    return run_command(definition, output=output, **{**options, **changes})


_started: list[Process] = []


@pytest.fixture(autouse=True)
def nobody_left() -> Iterator[None]:
    """Whatever a test comes to, the scripts that it started are gone afterwards."""
    yield
    while _started:
        process = _started.pop()
        if process.returncode is None:
            os.kill(process.pid, signal.SIGKILL)


async def start(script: str, *arguments: str | Path) -> Process:
    """Start a script the way a shell does."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(SCRIPTS / script), *(str(one) for one in arguments)),
        stdout=PIPE,
        stderr=PIPE,
    )
    _started.append(process)
    return process


async def ended(process: Process) -> tuple[int | None, str, str]:
    """Wait for a script's end: its exit code, and what it said."""
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


Call = Callable[..., Awaitable[tuple[int, str, str]]]


@pytest.fixture
def call(tmp_path_factory: pytest.TempPathFactory) -> Call:
    """Run a script to its end: its exit code, and what it said. It is forked, as commands are."""

    async def run(script: str, *arguments: str | Path) -> tuple[int, str, str]:
        out, err = (tmp_path_factory.mktemp("streams") / name for name in ("out", "err"))
        process = forked.start_script(
            SCRIPTS / script, [*map(str, arguments)], Path(os.devnull), out, err
        )
        try:
            async with asyncio.timeout(60):
                code = await process.wait()
        finally:
            process.kill()
            await process.wait()
        return code, out.read_text(), err.read_text()

    return run


def files(folder: Path) -> set[str]:
    """The names in a folder, but for what a server leaves to lock."""
    return {file.name for file in folder.iterdir() if not file.name.endswith("-lock")}


RUN_FILES = {"tasks.db", "snapshot.json", "metrics.json", "run.json", "server.log"}


def test_definition_is_run_by_all_ways(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every run has its folder, the whole a report; required criteria hold, so the code is 0.

    The criterion does not hold for the poll run, which does not decide where there are runs in
    which the server chooses.
    """
    definition = write_definition(tmp_path, "calls_per_task < 6 AND pending_count == 0")

    code = run_definition(definition, tmp_path / "out")

    shown = capsys.readouterr()
    assert code == 0, shown
    assert {"poll", "next"} <= set(PULLS)
    assert files(tmp_path / "out") == {
        "report.md",
        "report.html",
        *(f"alone-{pull}" for pull in PULLS),
    }
    for pull in PULLS:
        folder = tmp_path / "out" / f"alone-{pull}"
        assert files(folder) == RUN_FILES
        metrics = json.loads((folder / "metrics.json").read_text())
        assert metrics["run"]["pull"] == pull
        assert metrics["metrics"]["completed_by_agents"] == 6
    assert "fail" in shown.out
    assert f"report: {tmp_path}/out/report.md" in shown.out
    assert f"small: {len(PULLS)} runs" in shown.err


def test_required_criterion_that_fails_is_code_1(tmp_path: Path) -> None:
    """A poll run alone decides for itself."""
    definition = write_definition(tmp_path, "calls_per_task < 6")
    assert run_definition(definition, tmp_path / "out", pull=["poll"], **SIMULATED) == 1
    assert files(tmp_path / "out") == {"report.md", "report.html", "alone"}


def test_partial_run_is_code_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run that was given up is reported as partial, whatever its criteria say."""
    definition = write_definition(tmp_path, "total_count == 6", never=True)

    code = run_definition(definition, tmp_path / "out", pull=["next"], timeout=0.5)

    assert code == 3
    assert "partial" in capsys.readouterr().out
    assert "Partial results" in (tmp_path / "out" / "report.md").read_text()
    assert files(tmp_path / "out" / "alone") == RUN_FILES


def test_charts_are_drawn_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With charts, the output says where each of them lies."""
    definition = write_definition(tmp_path, "pending_count == 0")
    run_definition(definition, tmp_path / "out", pull=["next"], charts=True, **SIMULATED)
    shown = capsys.readouterr().out
    drawn = [line.removeprefix("chart: ") for line in shown.splitlines() if "chart: " in line]
    assert len(drawn) == len(KNOWN_CHARTS)
    assert all(Path(file).read_bytes().startswith(b"\x89PNG") for file in drawn)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"runs": ["nobody"]}, "there is no run 'nobody'"),
        ({"speed": -1.0}, "the speed is -1"),
        ({"pull": ["push"]}, "no way of pulling is called 'push'"),
        ({"agents": 3}, "leave them out"),
        ({"definition": Path("nowhere.yaml")}, "nowhere.yaml"),
        ({"definition": None}, "there is nothing to run"),
        ({"definition": None, "template": Path("nowhere.json")}, "nowhere.json"),
    ],
)
def test_wrong_input_is_code_2_and_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: dict[str, Any], told: str
) -> None:
    """Nothing is started or written for what cannot be run."""
    definition = wrong.pop("definition", write_definition(tmp_path, "pending_count == 0"))
    code = run_definition(definition, tmp_path / "out", **wrong)
    said = capsys.readouterr().err
    assert code == 2
    assert told in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_template_that_the_server_refuses_is_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The sentence names the file and what is wrong in it."""
    definition = write_definition(tmp_path, "pending_count == 0")
    template = tmp_path / "template.json"
    content = json.loads(template.read_text())
    content["tables"]["dependencies"][0]["to_task_id"] = "nowhere"
    template.write_text(json.dumps(content))

    assert run_definition(definition, tmp_path / "out", pull=["next"]) == 2

    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"error: {template}: ")
    assert "nowhere" in last


def test_database_that_is_none_is_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Comparing what is not there says so."""
    missing = tmp_path / "tasks.db"
    code = compare_command(
        [missing], labels=[], charts=False, output=tmp_path / "c", definition=None
    )
    assert code == 2
    assert str(missing) in capsys.readouterr().err


def test_query_that_cannot_be_answered_starts_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A slip in a definition is told before the fleet has worked for nothing."""
    definition = write_definition(tmp_path, "pending_count == 0")
    content = yaml.safe_load(definition.read_text())
    content["metrics"] = {"mine": {"measurements": [{"name": "x", "query": "SELECT y FROM tasks"}]}}
    definition.write_text(yaml.safe_dump(content))

    assert run_definition(definition, tmp_path / "out") == 2

    assert capsys.readouterr().err == (
        f"error: {definition}: metrics.mine.measurements[0].query: x cannot be measured: "
        "no such column: y\n"
    )
    assert not (tmp_path / "out").exists()


def test_query_is_run_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow query costs its time once for a run: the report tells what metrics.json tells."""
    definition = write_definition(tmp_path, "pending_count == 0")
    content = yaml.safe_load(definition.read_text())
    query = "SELECT count(*) AS n FROM tasks"
    content["metrics"] = {"mine": {"measurements": [{"name": "n", "query": query}]}}
    definition.write_text(yaml.safe_dump(content))
    asked: list[str] = []

    def counted(connection: Any, query: str, *more: Any) -> Any:
        asked.append(query)
        return run_query(connection, query, *more)

    monkeypatch.setattr("taskloom_experiments.analysis.run_query", counted)
    assert run_definition(definition, tmp_path / "out", pull=["next"], **SIMULATED) == 0
    assert asked == [query]
    metrics = json.loads((tmp_path / "out" / "alone" / "metrics.json").read_text())
    assert metrics["queries"]["n"]["rows"] == [[6]]
    assert "| alone | 6 |" in (tmp_path / "out" / "report.md").read_text()


def test_run_made_again_leaves_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another way of pulling into the same folder replaces nothing, and what stays is told."""
    definition = write_definition(tmp_path, "pending_count == 0")
    out = tmp_path / "out"
    assert run_definition(definition, out, pull=["poll"], **SIMULATED) == 0
    first = (out / "alone" / "run.json").read_bytes()

    assert run_definition(definition, out, pull=["next"], **SIMULATED) == 0

    assert files(out) == {"report.md", "report.html", "alone", "alone-next"}
    assert (out / "alone" / "run.json").read_bytes() == first
    assert "kept as it was, and not in the report: alone\n" in capsys.readouterr().err


@pytest.mark.parametrize("unread", ["stdout", "stderr"])
async def test_reader_that_went_away_is_code_141(tmp_path: Path, unread: str) -> None:
    """As other commands do: quietly; and the report is there, if only the end was not read."""
    definition = write_definition(tmp_path, "pending_count == 0")
    reader, writer = os.pipe()
    os.close(reader)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "taskloom_client", "experiment", "run", str(definition)),
        *("--output", str(tmp_path / "out"), "--pull", "next", "--speed", "72000", "--no-charts"),
        stdout=writer if unread == "stdout" else PIPE,
        stderr=writer if unread == "stderr" else PIPE,
    )
    _started.append(process)
    os.close(writer)

    async with asyncio.timeout(60):
        told = await process.communicate()

    assert process.returncode == 141
    assert not any(b"Traceback" in part for part in told if part)
    assert (tmp_path / "out" / "report.md").exists() == (unread == "stdout")


async def test_waiting_for_a_run_whose_runner_is_gone(tmp_path: Path) -> None:
    """kill -9 of the runner: nobody will finish the run, so it is measured and called partial."""
    template = write_template(tmp_path / "t.json", never=True)
    out = tmp_path / "out"
    runner = await start(
        *("run_experiment.py", "--template", template, "--agents", "2", "--output", out),
        *("--speed", "72000", "--no-charts"),
    )
    assert runner.stderr is not None
    async with asyncio.timeout(60):
        while b"tasks done" not in await runner.stderr.readline():
            pass
    waiting = await start("run_experiment.py", "--wait", "--poll-interval", "0.05", "--output", out)
    assert waiting.stderr is not None
    assert b"6 tasks have ended" in await waiting.stderr.readline()

    runner.kill()
    code, told, _ = await ended(waiting)

    assert code == 3
    assert told == (
        f"partial: the runner ended before the run did; {out}/metrics.json is written\n"
    )
    assert json.loads((out / "metrics.json").read_text())["partial"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_interrupted_experiment_reports_what_there_is(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    """A signal ends the run in order, and there is a report that calls it partial."""
    template = write_template(tmp_path / "t.json", never=True)
    out = tmp_path / "out"
    process = await start(
        *("run_experiment.py", "--template", template, "--agents", "2", "--output", out),
        *("--speed", "72000", "--no-charts"),
    )
    assert process.stderr is not None
    async with asyncio.timeout(60):
        while b"tasks done" not in await process.stderr.readline():
            pass

    process.send_signal(number)
    ending, shown, _ = await ended(process)

    assert ending == code
    assert "partial" in shown
    assert files(out) == RUN_FILES | {"report.md", "report.html"}
    record = json.loads((out / "run.json").read_text())
    assert record["partial_reason"].startswith(f"interrupted by {number.name}")


async def test_reference_command_lines(call: Call, tmp_path: Path) -> None:
    """run_experiment.py twice, compare_experiments.py on what they left: report and charts."""
    template = write_template(tmp_path / "t.json")
    for agents in ("1", "2"):
        code, _, err = await call(
            *("run_experiment.py", "--template", template, "--workflow", "swarm"),
            *("--agents", agents, "--output", tmp_path / f"pull-{agents}"),
            *("--speed", "72000", "--no-charts"),
        )
        assert code == 0, err
        assert files(tmp_path / f"pull-{agents}") == RUN_FILES | {"report.md", "report.html"}
        assert json.loads((tmp_path / f"pull-{agents}/run.json").read_text())["pull"] == "poll"

    code, out, err = await call(
        *("compare_experiments.py", tmp_path / "pull-1/tasks.db", tmp_path / "pull-2/tasks.db"),
        *("--labels", "one,two", "--charts", "--output", tmp_path / "comparison"),
    )

    assert code == 0, err
    assert "one" in out
    report = (tmp_path / "comparison.md").read_text()
    assert "two" in report
    assert len([name for name in files(tmp_path) if name.endswith(".png")]) == len(KNOWN_CHARTS)


async def test_steps_one_at_a_time(call: Call, tmp_path: Path) -> None:
    """Import, export and reset do one thing each, and never twice what can be done once."""
    template = write_template(tmp_path / "t.json")
    run = tmp_path / "run"

    code, out, _ = await call(
        "run_experiment.py", "--import-only", "--template", template, "--output", run
    )
    assert (code, out) == (0, f"{run}/tasks.db holds the 6 tasks of {template}\n")

    code, _, err = await call(
        "run_experiment.py", "--import-only", "--template", template, "--output", run
    )
    assert code == 1
    assert "TASK_EXISTS" in err

    code, _, _ = await call("run_experiment.py", "--export-only", "--output", run)
    assert code == 0
    assert len(json.loads((run / "snapshot.json").read_text())["tables"]["tasks"]) == 6
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["metrics"]["pending_count"] == 6

    code, out, _ = await call("run_experiment.py", "--reset-only", "--output", run)
    assert (code, out) == (0, f"{run}/tasks.db is empty now\n")

    code, _, err = await call("run_experiment.py", "--wait", "--output", run)
    assert code == 2
    assert "holds no tasks" in err


async def test_waiting_for_agents_of_others(call: Call, tmp_path: Path) -> None:
    """--wait looks at a database that another server writes, and measures it when all is done."""
    template = write_template(tmp_path / "t.json")
    run = tmp_path / "run"
    await call("run_experiment.py", "--import-only", "--template", template, "--output", run)
    waiting = await start("run_experiment.py", "--wait", "--poll-interval", "0.05", "--output", run)
    assert waiting.stderr is not None
    async with asyncio.timeout(30):
        assert b"0/6 tasks have ended" in await waiting.stderr.readline()

    settings = AgentSettings(pull="next", seed=1, speed=72_000, tags=("coder",))
    async with serving(run / "tasks.db", tmp_path / "server.log") as server:
        agent = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "taskloom_experiments.agents", "--server", server.target),
            *("--worker-id", "agent-1", "--config", settings.to_json()),
            stdout=PIPE,
        )
        await agent.communicate()
        code, out, _ = await ended(waiting)  # beside the server, which still has the file

    assert code == 0
    assert out == f"all tasks have ended; {run}/metrics.json is written\n"
    metrics = json.loads((run / "metrics.json").read_text())["metrics"]
    assert metrics["completed_by_agents"] == 6


async def test_template_is_asked_for(call: Call) -> None:
    """Without a template there is nothing to run, and the usage says so."""
    code, _, err = await call("run_experiment.py", "--output", "anywhere")
    assert code == 2
    assert "--template is missing" in err


@pytest.mark.parametrize("script", ["run_experiment.py", "compare_experiments.py"])
async def test_help_shows_the_command_lines(call: Call, script: str) -> None:
    """--help explains the script by examples."""
    code, out, _ = await call(script, "--help")
    assert code == 0
    assert out.count(script) >= 2


def test_server_that_does_not_come_up_is_code_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bad luck is not wrong input: what there is counts as partial, and the reason is told."""
    definition = write_definition(tmp_path, "pending_count == 0")
    broken = [sys.executable, "-c", "raise SystemExit('error: no luck today')"]
    monkeypatch.setattr(serving_module, "_command", lambda _: broken)

    code = run_definition(definition, tmp_path / "out", pull=["next"])

    assert code == 3
    assert capsys.readouterr().err.endswith("error: the server did not come up: no luck today\n")
