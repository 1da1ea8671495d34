"""What the command line does about load: measure scenarios, compare two measurements.

Whether a bar is met is said, and is not the exit code: a shared machine has its moods. Only a
soak's bars are, since what it asks is whether anything grows. What was measured is on the disk
after each scenario, also when a later one fails or is interrupted.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from taskloom_client import TaskloomError

from taskloom_experiments.errors import ExperimentError
from taskloom_experiments.exits import FAILED, OK, ending, tell
from taskloom_experiments.interruption import Interrupted, Interruption
from taskloom_experiments.load.compared import compare, read_report
from taskloom_experiments.load.machine import describe_machine
from taskloom_experiments.load.measured import Measured
from taskloom_experiments.load.report import MARKDOWN_FILE, tables, write_report
from taskloom_experiments.load.scenarios import SCENARIOS, Choice
from taskloom_experiments.load.soak import SoakSettings, measure_soak

OUTPUT = Path("results/bench")
_GRAPHS = "graphs"


class UnknownScenario(ExperimentError):
    """No scenario has this name; the text lists those there are."""


@ending
def load_command(names: Sequence[str], output: Path, choice: Choice) -> int:
    """Measure scenarios, all of them if none is named; print the tables, and leave a report.

    Returns 0, or 1 where something could not be measured, 2 for wrong input and 128 plus the number
    of the signal when interrupted.
    """
    for name in names:
        if name not in SCENARIOS:
            raise UnknownScenario(
                f"no scenario is called {name!r}; there are {', '.join(SCENARIOS)}"
            )
    (output / _GRAPHS).mkdir(parents=True, exist_ok=True)
    session = _Session(output, choice)
    code = asyncio.run(session.measure(names or tuple(SCENARIOS)))
    if session.measured:
        print(tables(session.measured))
        print(f"\nreport: {output / MARKDOWN_FILE}")
    return code


@ending
def soak_command(output: Path, settings: SoakSettings) -> int:
    """Let clients come and go for long; print what grew, and leave a report.

    Returns 0, or 1 where a bar is missed or something went wrong, 2 for wrong input and 128 plus
    the number of the signal when interrupted; what was seen until then is told all the same.
    """
    output.mkdir(parents=True, exist_ok=True)
    seen: list[Measured] = []

    def tell_of(measured: Measured) -> None:
        seen[:] = [measured]
        print(f"\r{measured.scenario}", end="", file=sys.stderr, flush=True)

    try:
        code = asyncio.run(_soak(output, settings, tell_of))
    finally:
        if seen:
            print(file=sys.stderr)
            write_report(output, describe_machine(), seen)
            print(tables(seen))
            print(f"\nreport: {output / MARKDOWN_FILE}")
    missed = any(figure.met is False for measured in seen for figure in measured.figures)
    return code or (FAILED if missed else OK)


async def _soak(output: Path, settings: SoakSettings, tell_of: Callable[[Measured], None]) -> int:
    interruption = Interruption()
    with (
        interruption.listening(),
        tempfile.TemporaryDirectory(prefix=".soak-", dir=output) as place,
    ):
        try:
            async with interruption.scope():
                await measure_soak(settings, Path(place), tell_of)
        except Interrupted as stopped:
            tell(stopped)
            assert interruption.signal is not None
            return 128 + interruption.signal
        except (ExperimentError, TaskloomError, TimeoutError) as error:
            tell(f"soak: {str(error) or 'no answer came within the time that it may take'}")
            return FAILED
    return OK


@ending
def compare_command(before: Path, after: Path) -> int:
    """Print how the figures of one measurement compare with those of an earlier one."""
    print(compare(read_report(before), read_report(after)))
    return OK


class _Session:
    def __init__(self, output: Path, choice: Choice) -> None:
        self._output = output
        self._choice = choice
        self._machine = describe_machine()
        self.measured: list[Measured] = []

    async def measure(self, names: Sequence[str]) -> int:
        """Measure them one after the other; the exit code."""
        interruption = Interruption()
        code = OK
        with interruption.listening():
            try:
                for name in names:
                    async with interruption.scope():
                        code = max(code, await self._scenario(name))
            except Interrupted as stopped:
                tell(stopped)
                assert interruption.signal is not None
                return 128 + interruption.signal
        return code

    async def _scenario(self, name: str) -> int:
        for measure in SCENARIOS[name].measurements(self._choice):
            began = time.monotonic()
            # On the disk on which the results lie; some have their temporary files in memory.
            with tempfile.TemporaryDirectory(prefix=".bench-", dir=self._output) as place:
                try:
                    one = await measure(Path(place), self._output / _GRAPHS)
                except (ExperimentError, TaskloomError, TimeoutError) as error:
                    tell(f"{name}: {str(error) or 'nothing came within the time that it may take'}")
                    return FAILED
            self.measured.append(one)
            write_report(self._output, self._machine, self.measured)
            seconds = time.monotonic() - began
            print(f"measured in {seconds:.0f} s: {one.scenario}", file=sys.stderr, flush=True)
        return OK
