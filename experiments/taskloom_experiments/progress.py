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

from taskloom_experiments.consoles import PipedConsole

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

    First it is the best possible time that says it, then more and more the pace so far, which alone
    misleads at the start: large tasks come first, and none is done before one is.
    """
    if tasks == 0:
        return None
    left_at_best = max(0.0, expected_s - elapsed_s)
    if done == 0:
        return left_at_best
    left_at_pace = elapsed_s * (tasks - done) / done
    trust = min(1.0, elapsed_s / expected_s) if expected_s else 1.0
    return (1 - trust) * left_at_best + trust * left_at_pace


class Teller:
    """Tells a person how the runs go."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or PipedConsole(stderr=True, highlight=False)

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
        following = time.monotonic()

        def show(standing: Standing) -> None:
            nonlocal following
            if time.monotonic() >= following:
                following = time.monotonic() + _SECONDS_BETWEEN_LINES
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
