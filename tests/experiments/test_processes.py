"""Children that are gone when they should be: asked, killed, or left behind by a killed parent."""

import asyncio
import os
import signal
import subprocess
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from taskloom_experiments import processes
from taskloom_experiments.interruption import Interrupted, Interruption

Python = Callable[..., Awaitable[Process]]


@pytest.fixture(autouse=True)
def _forked_children() -> None:
    """None: children are started here as runs start them."""


@pytest.fixture
def python(tmp_path: Path) -> Python:
    """Start a Python program as a child, whose stderr is in ``log``."""

    async def start(program: str, *arguments: str) -> Process:
        command = [sys.executable, "-c", program, *arguments]
        return await processes.start(command, log=tmp_path / "log")

    return start


async def _gone(pid: int) -> None:
    """Wait until there is no such process, not even one whose end nobody asked about."""
    async with asyncio.timeout(10):
        while _lives(pid):  # noqa: ASYNC110 - another's child tells nobody here of its end
            await asyncio.sleep(0.01)


def _lives(pid: int) -> bool:
    command = ["ps", "-o", "stat=", "-p", str(pid)]
    state = subprocess.run(command, capture_output=True, text=True, check=False)
    return state.stdout.strip()[:1] not in ("", "Z")


async def test_child_that_obeys_is_asked_only(python: Python) -> None:
    """A child that ends on SIGTERM has ended so when stop returns."""
    child = await python("import time; print('up', flush=True); time.sleep(60)")
    assert await processes.read_line(child) == "up"

    await processes.stop([child], grace_s=10)

    assert processes.ending(child) == "by SIGTERM"


async def test_child_that_ignores_sigterm_is_killed(python: Python) -> None:
    """A child that is still there after its grace is killed."""
    child = await python(
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print('up', flush=True); time.sleep(60)"
    )
    assert await processes.read_line(child) == "up"

    await processes.stop([child], grace_s=0.05)

    assert processes.ending(child) == "by SIGKILL"


async def test_cancelled_stop_leaves_nobody(python: Python) -> None:
    """Whoever does not wait for the grace has the children killed at once."""
    child = await python(
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print('up', flush=True); time.sleep(60)"
    )
    assert await processes.read_line(child) == "up"
    stopping = asyncio.create_task(processes.stop([child], grace_s=60))
    await asyncio.sleep(0)

    stopping.cancel()
    await asyncio.wait([stopping])

    await child.wait()
    assert processes.ending(child) == "by SIGKILL"


async def test_what_a_child_started_ends_with_it(python: Python) -> None:
    """A child's own children are stopped together with it."""
    child = await python(
        "import subprocess, sys, time;"
        "other = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
        "print(other.pid, flush=True); time.sleep(60)"
    )
    grandchild = int(await processes.read_line(child) or 0)

    await processes.stop([child], grace_s=10)

    await _gone(grandchild)


async def test_child_that_ended_by_itself_needs_no_stopping(python: Python) -> None:
    """Stopping what has ended returns at once and changes nothing."""
    child = await python("raise SystemExit(3)")
    await child.wait()

    await processes.stop([child], grace_s=60)

    assert processes.ending(child) == "with exit code 3"


_PARENT = """
import os, subprocess, sys
child = subprocess.Popen(
    [sys.executable, "-m", "taskloom_experiments.tether", str(os.getpid()), sys.executable,
     "-c", "import time; print('up', flush=True); time.sleep(60)"],
    stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
child.wait()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's tether is Linux's")
async def test_tethered_child_ends_with_its_killed_parent(python: Python) -> None:
    """kill -9 of the parent ends the child, which had no say in it."""
    parent = await python(_PARENT)
    child = int(await processes.read_line(parent) or 0)
    os.kill(parent.pid, 0)

    parent.kill()
    await parent.wait()

    await _gone(child)


_SUPERVISOR = """
import sys
from taskloom_experiments.tether import supervise
sys.exit(supervise([sys.executable, "-c",
    "import os, time; print(os.getpid(), flush=True); time.sleep(60)"]))
"""


async def test_supervised_child_ends_with_the_pipe() -> None:
    """Where no kernel watches, the end of the parent's pipe ends the child."""
    supervisor = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _SUPERVISOR, stdin=PIPE, stdout=PIPE
    )
    child = int(await processes.read_line(supervisor) or 0)
    assert supervisor.stdin is not None

    supervisor.stdin.close()

    async with asyncio.timeout(10):
        await supervisor.wait()
    await _gone(child)


async def test_supervised_child_is_asked_when_its_supervisor_is(python: Python) -> None:
    """SIGTERM to the process in between reaches the child, and its exit code comes back."""
    child = await python(_SUPERVISOR)
    grandchild = int(await processes.read_line(child) or 0)

    os.kill(child.pid, signal.SIGTERM)

    async with asyncio.timeout(10):
        await child.wait()
    await _gone(grandchild)
    assert child.returncode != 0


async def test_signal_ends_a_scope() -> None:
    """A signal comes out of the scope as Interrupted, and what follows may still wait."""
    interruption = Interruption()

    async def work() -> None:
        async with interruption.scope():
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(60)

    with interruption.listening():
        with pytest.raises(Interrupted, match="interrupted by SIGTERM"):
            await work()
        await asyncio.sleep(0)
    assert interruption.signal == signal.SIGTERM


async def test_signal_between_scopes_is_remembered() -> None:
    """A signal that arrives outside of scopes lets work go on until the next one begins."""
    interruption = Interruption()
    with interruption.listening():
        os.kill(os.getpid(), signal.SIGINT)
        async with asyncio.timeout(10):
            while interruption.signal is None:  # noqa: ASYNC110 - it is what is being tested
                await asyncio.sleep(0)
        with pytest.raises(Interrupted):
            async with interruption.scope():
                pytest.fail("a scope began after the signal")


async def test_second_signal_cancels() -> None:
    """Who insists is not kept waiting, whatever goes on."""
    interruption = Interruption()
    arrived = asyncio.Event()

    async def stubborn() -> None:
        with interruption.listening():
            try:
                async with interruption.scope():
                    os.kill(os.getpid(), signal.SIGINT)
                    await asyncio.sleep(60)
            except Interrupted:
                arrived.set()
                await asyncio.sleep(60)

    task = asyncio.create_task(stubborn())
    await arrived.wait()
    os.kill(os.getpid(), signal.SIGINT)
    await asyncio.wait([task])
    assert task.cancelled()


async def test_others_cancelling_is_not_an_interruption() -> None:
    """A scope that is cancelled by anybody else passes the cancellation on."""
    interruption = Interruption()
    entered = asyncio.Event()

    async def work() -> None:
        async with interruption.scope():
            entered.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(work())
    await entered.wait()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
