"""At a shell: prompts are printed, gates told beforehand, and force is an option."""

import asyncio
import sys

from taskloom_client import Client
from taskloom_server.graph.workflows import Enforcement, Role, Unknown

from tests.calls import claim, connect, create
from tests.workflows_obeyed.boards import board, guarded, limited, prompt, states
from tests.workflows_obeyed.conftest import Serving


async def _run(client: Client, *arguments: str) -> tuple[int, str, str]:
    """The exit code of a command, and what it printed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "taskloom_client", "--server", client.target, *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_prompts_are_printed(serve: Serving) -> None:
    """Connecting, claiming and completing print what the workflow says; --json has it inside."""
    talkative = board(
        **states(
            {
                "working": {"enter_prompt": prompt("do {{ task.id }}\n\nwell")},
                "completed": {"enter_prompt": prompt("thanks")},
            }
        ),
        connect_prompt=prompt("welcome"),
        roles=(Role("hand", frozenset(), max_claims=2),),
    )
    async with serve(talkative) as client:
        await create(client, "a")
        await create(client, "b")
        code, out, err = await _run(client, "worker", "connect", "ada", "--max-claims", "9")
        assert (code, out.splitlines()[0].partition(",")[0]) == (
            0,
            "connected ada (hand): holds up to 2 tasks",
        )
        assert out.endswith("\n\n[connect]\nwelcome\n")
        assert err == "warning: max_claims: role 'hand' may hold 2 at once, not 9\n"
        code, out, _ = await _run(client, "claim", "--worker", "ada", "--max-tasks", "2")
        assert "\n[enter:working a]\ndo a\n\nwell\n\n[enter:working b]\n" in out
        code, out, _ = await _run(client, "complete", "a", "--worker", "ada")
        assert out == "completed a\n\n[enter:completed]\nthanks\n"
        code, out, _ = await _run(client, "complete", "b", "--worker", "ada", "--json")
        assert '"trigger": "enter:completed"' in out


async def test_gates_are_told_and_forced(serve: Serving) -> None:
    """``task gates`` shows what is missing and exits with 1; --force goes past, with a warning."""
    async with serve(guarded(Enforcement.WARN)) as client:
        await connect(client, "ada")
        await create(client, "t")
        code, out, _ = await _run(client, "task", "gates", "t", "--status", "working")
        assert (code, out) == (0, "t has no gate to pass\n")
        code, out, _ = await _run(client, "task", "gates", "t")
        assert (code, out.splitlines()[-1]) == (
            1,
            "task 't' is 'pending' and cannot become 'completed'; its exits are assigned, working, "
            "cancelled; the shortest way is working, then completed",
        )
        await claim(client, "ada", "t")
        code, out, _ = await _run(client, "task", "gates", "t")
        heading, row, verdict = out.splitlines()
        assert code == 1
        assert heading.split() == ["GATE", "IN", "LEAVING", "ASKS", "FOR", "ELSE", "THERE", "ABOUT"]
        assert row.split()[:4] == ["tested", "working", "status:working", "gate/tests"]
        assert row.split()[4:6] == ["warn", "no"]
        assert verdict == "t cannot go on but with --force"
        code, _, err = await _run(client, "complete", "t", "--worker", "ada")
        assert code == 1
        assert err.endswith("(GATE_UNSATISFIED)\n")
        code, out, err = await _run(client, "complete", "t", "--worker", "ada", "--force")
        assert (code, out) == (0, "completed t\n")
        assert err.startswith("warning: gate 'tested' on leaving status:working")


async def test_no_room_is_told(serve: Serving) -> None:
    """A claim that finds no room says so, and exits as one that finds nothing."""
    full = limited(1)
    async with serve(board(states=full.states, unknown_phase=Unknown.WARN)) as client:
        await connect(client, "ada", max_claims=2)
        await create(client, "a")
        await create(client, "b")
        await claim(client, "ada", "a")
        code, out, err = await _run(client, "claim", "--worker", "ada")
        assert (code, out) == (5, "")
        assert "as many tasks are worked on as the workflow allows" in err
        code, out, err = await _run(client, "task", "update", "b", "--phase", "dance")
        assert (code, out) == (0, "updated b (pending)\n")
        assert err.startswith("warning: phase: workflow 'board' has no phase 'dance'")
