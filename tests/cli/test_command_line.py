"""The command line itself: help, wrong usage, servers that are not there, missing extras."""

import asyncio
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import typer
from taskloom_client.cli import app, main
from taskloom_client.cli.exits import MEANINGS, ExitCode
from typer.testing import CliRunner

if TYPE_CHECKING:
    from tests.cli.conftest import Cli


def _commands(group: typer.Typer, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = [(*path, str(command.name)) for command in group.registered_commands]
    for below in group.registered_groups:
        assert below.typer_instance is not None
        found += [(*path, str(below.name))]
        found += _commands(below.typer_instance, (*path, str(below.name)))
    return found


@pytest.mark.parametrize("command", [(), *_commands(app)], ids=" ".join)
def test_every_command_explains_itself(command: tuple[str, ...]) -> None:
    """--help works everywhere, and every command and group says in a line what it does."""
    shown = CliRunner().invoke(app, [*command, "--help"], prog_name="taskloom")
    assert shown.exit_code == 0
    usage, about = [line for line in shown.output.splitlines() if line.strip()][:2]
    assert " ".join(("Usage: taskloom", *command)) in usage
    assert len(about.split()) > 2


async def test_help_lists_the_exit_codes(taskloom: "Cli") -> None:
    """Scripts rely on the exit codes, so the help shows all of them."""
    shown = await taskloom("--help")
    assert shown.code == 0
    for code, meaning in MEANINGS.items():
        assert f"{code.value:>3}  {meaning}" in shown.out


async def test_without_a_command_the_help_is_shown(taskloom: "Cli") -> None:
    """taskloom alone is no usage, and shows the right one."""
    shown = await taskloom()
    assert (shown.code, shown.err) == (2, "")
    assert "Usage: taskloom" in shown.out


async def test_version(taskloom: "Cli") -> None:
    """--version says it on standard output."""
    said = await taskloom("--version")
    assert said.code == 0
    assert said.out.startswith("taskloom ")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["tsk"], "no such command 'tsk'. Did you mean 'task'?"),
        (["task", "add"], "missing argument 'TITLE'"),
        (["task", "list", "--nope"], "no such option: --nope"),
        (["task", "add", "x", "--estimate", "5x"], "'5x' is not a duration such as 90s, 15m"),
        (["task", "add", "x", "--priority", "11"], "less than or equal to 10"),
        (["task", "update", "x"], "nothing to change is given"),
        (["task", "update", "x", "y", "--priority", "1", "--etag", "3"], "go with one task"),
        (
            ["task", "update", "x", "--clear", "title"],
            "'title' cannot be cleared; what can: description",
        ),
        (["task", "list", "--recursive"], "--recursive goes with --parent"),
        (["task", "link", "a", "b", "--type", "likes"], "'likes' is not one of 'blocks'"),
        (["task", "add", "\udcff"], "is not valid UTF-8"),
        (["--server", "nowhere", "status"], "'nowhere' is not HOST:PORT"),
        (["status", "--server", "nowhere:0"], "no port between 1 and 65535"),
        (["status", "--timeout", "0"], "'0' is not a time to wait"),
        (["claim"], "missing option '--worker'"),
        (["claim", "x", "--worker", "w", "--max-tasks", "2"], "go without an ID"),
        (["fail", "x", "--worker", "w", "--retry-delay", "5m"], "goes with --retry"),
        (["watch", "--event", "nope"], "there are no events 'nope'; there are task-listed"),
        (["watch", "--state", "--from", "3"], "--state goes without --from"),
        (["import", "/no/such/file"], "cannot read /no/such/file: No such file or directory"),
        (["import", "/"], "cannot read /: Is a directory"),
        (["reset"], "add --yes"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_wrong_usage_is_one_sentence(
    arguments: list[str],
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What is wrong with a command line is said in one line on standard error: exit code 2."""
    monkeypatch.setattr(sys, "argv", ["taskloom", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capsys.readouterr()
    assert (ended.value.code, out) == (ExitCode.USAGE, "")
    assert err.startswith("error: ")
    assert sentence in err
    assert err.count("\n") == 1


async def test_no_server_is_one_sentence(taskloom: "Cli") -> None:
    """Where nobody listens, the command says so soon and exits with 4, a watch included."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nowhere = f"127.0.0.1:{taken.getsockname()[1]}"
        commands = (["status"], ["watch"], ["export", "-"], ["reset", "--yes"])
        for ran in await asyncio.gather(*(taskloom("--server", nowhere, *c) for c in commands)):
            assert (ran.code, ran.out) == (ExitCode.UNREACHABLE, "")
            assert ran.err.startswith(f"error: the server at {nowhere} cannot be reached: ")
            assert "'taskloom serve' starts one" in ran.err
            assert ran.err.count("\n") == 1


async def test_silent_server_is_one_sentence(taskloom: "Cli") -> None:
    """Where somebody listens and never answers, --timeout bounds the wait: exit code 4."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        where = f"127.0.0.1:{mute.getsockname()[1]}"
        ran = await taskloom("status", "--server", where, "--timeout", "300ms")
    assert (ran.code, ran.out) == (ExitCode.UNREACHABLE, "")
    assert ran.err.startswith("error: ")
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize(
    ("command", "hidden", "extra"),
    [
        (["serve"], "taskloom_server", "server"),
        (["serve"], "apsw", "server"),
        (["workflow", "check", "x.yaml"], "taskloom_server", "server"),
        (["workflow", "check", "x.yaml"], "jinja2", "server"),
        (["workflow", "check", "x.yaml"], "yaml", "server"),
        (["experiment", "run", "x.yaml"], "taskloom_experiments", "experiments"),
        (["experiment", "compare", "tasks.db"], "taskloom_experiments", "experiments"),
        (["experiment", "run", "x.yaml"], "yaml", "experiments"),
        (["experiment", "run", "x.yaml"], "simpleeval", "experiments"),
        (["experiment", "sweep", "x.yaml", "--over", "agents=1"], "apsw", "experiments"),
    ],
)
def test_missing_extras_are_named(command: list[str], hidden: str, extra: str) -> None:
    """A command that needs more than the client says what to install."""
    script = (
        f"import sys; sys.modules[{hidden!r}] = None; sys.argv[1:] = {command!r}\n"
        "from taskloom_client.cli import main; main()"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=30
    )
    assert (ran.returncode, ran.stdout) == (ExitCode.REFUSED, "")
    assert ran.stderr.startswith(f"error: this command needs the extra '{extra}' ({hidden}")
    assert ran.stderr.endswith(f" is missing): pip install 'taskloom[{extra}]'\n")
    assert ran.stderr.count("\n") == 1


def test_the_client_alone_suffices() -> None:
    """Importing the command line imports nothing of the extras."""
    script = (
        "import sys, taskloom_client.cli\nprint(*{name.partition('.')[0] for name in sys.modules})"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30
    )
    extras = {"taskloom_server", "taskloom_experiments", "apsw", "peewee", "structlog", "yaml"}
    assert not extras & set(ran.stdout.split())
