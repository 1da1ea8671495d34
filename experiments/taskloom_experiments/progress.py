"""How a run stands, told while it goes on: a bar on a terminal, a line now and then elsewhere.

It is told on standard error, so that a comparison on standard output can be piped.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

_SECONDS_BETWEEN_LINES = 5.0


@dataclass(frozen=True)
class Standing:
    """How a run stands. ``left_s`` is a guess, None where there is nothing to guess from."""

    tasks: int
    done: int
    failed: int
    claims: int
    refused: int
    left_s: float | None


Show = Callable[[Standing], None]


def time_left(expected_s: float, elapsed_s: float, done: int, tasks: int) -> float | None:
    """A guess at the seconds that a run still needs.

    Until a quarter of the tasks is done, it is the best possible time that says it; afterwards it
    is the pace so far.
    """
    if tasks == 0:
        return None
    if done * 4 < tasks:
        return max(0.0, expected_s - elapsed_s)
    return elapsed_s * (tasks - done) / done


class Teller:
    """Tells a person how the runs go."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False)

    def say(self, sentence: str) -> None:
        """One line, as it is."""
        self._console.print(sentence, markup=False, soft_wrap=True)

    @contextlib.contextmanager
    def showing(self, label: str) -> Iterator[Show]:
        """While the context lasts, what is shown is how the run of this label stands."""
        if self._console.is_terminal:
            with self._bar(label) as show:
                yield show
        else:
            yield self._lines(label)

    @contextlib.contextmanager
    def _bar(self, label: str) -> Iterator[Show]:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[standing]}", markup=False),
        )
        with Progress(*columns, console=self._console, transient=True) as progress:
            bar = progress.add_task(label, total=None, standing="starting")

            def show(standing: Standing) -> None:
                progress.update(
                    bar, total=standing.tasks, completed=standing.done, standing=_words(standing)
                )

            yield show

    def _lines(self, label: str) -> Show:
        last = time.monotonic()

        def show(standing: Standing) -> None:
            nonlocal last
            if time.monotonic() - last >= _SECONDS_BETWEEN_LINES:
                last = time.monotonic()
                self.say(f"{label}: {_words(standing)}")

        return show


def _words(standing: Standing) -> str:
    words = [
        f"{standing.done}/{standing.tasks} tasks done",
        f"{standing.claims} claims",
        f"{standing.refused} refused",
        f"{standing.failed} failed",
    ]
    if standing.left_s is not None:
        words.append(f"{timedelta(seconds=round(standing.left_s))} left")
    return ", ".join(words)
