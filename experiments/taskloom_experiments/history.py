"""What happened when: spans of each task's status, the working stints of agents, the run's window.

Read from task_sequence, where a row says only what changed: a NULL status goes on with the one
before it, so that a change of phase does not end a stint. A row ends where it says, else where the
task's next row begins, else where the run ends.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from taskloom_experiments.tables import Tables, Transition

WORKING = "working"
ENDED = frozenset({"completed", "failed", "cancelled"})


@dataclass(frozen=True)
class Span:
    """A task was in a status from ``start`` until ``end``, in Unix ms.

    ``worker_id`` is who brought it there; ``next_status`` is what ended the span, None where the
    end of the run did.
    """

    task_id: str
    worker_id: str | None
    status: str
    start: int
    end: int
    next_status: str | None


@dataclass(frozen=True)
class Window:
    """When the run's work was done, in Unix ms.

    From ``start``, the first start of a task, to ``last_completion`` by an agent (None: none was
    completed). ``end`` is the last end of any work, or where tasks are left, the last sign of life.
    """

    start: int
    last_completion: int | None
    end: int

    @property
    def makespan_ms(self) -> int | None:
        """From the first start to the last completion; None where that is no time at all."""
        if self.last_completion is None or self.last_completion <= self.start:
            return None
        return self.last_completion - self.start


def window(tables: Tables, ended_at: int | None) -> Window | None:
    """The window of the run; None where no agent started anything.

    ``ended_at`` is when the runner says that the run ended: it counts where tasks are left.
    """
    starts = [task.started_at for task in tables.tasks if task.worker_id and task.started_at]
    starts += [row.timestamp for row in tables.transitions if row.status == WORKING]
    if not starts:
        return None
    completions = [
        task.completed_at
        for task in tables.tasks
        if task.worker_id and task.status == "completed" and task.completed_at is not None
    ]
    seen = [row.end_timestamp or row.timestamp for row in tables.transitions if row.worker_id]
    if any(task.status not in ENDED for task in tables.tasks):
        seen += [worker.last_heartbeat for worker in tables.workers if worker.last_heartbeat]
        seen += [] if ended_at is None else [ended_at]
    return Window(
        start=min(starts),
        last_completion=max(completions, default=None),
        end=max([*seen, *completions, *starts]),
    )


def spans(tables: Tables, until: int) -> tuple[Span, ...]:
    """Every status of every task, in order of start; what is still open ends at ``until``."""
    of_task: dict[str, list[Transition]] = defaultdict(list)
    known = {task.id for task in tables.tasks}
    for row in tables.transitions:
        if row.task_id in known:
            of_task[row.task_id].append(row)
    found = [span for rows in of_task.values() for span in _merged(_spans_of_task(rows, until))]
    return tuple(sorted(found, key=lambda span: (span.start, span.task_id)))


def stints(tables: Tables, all_spans: Iterable[Span]) -> tuple[Span, ...]:
    """The spans in which an agent worked a task.

    A task whose history has none, in a database that keeps no history, counts from its start to
    its end.
    """
    found = [span for span in all_spans if span.status == WORKING and span.worker_id]
    told = {span.task_id for span in found}
    for task in tables.tasks:
        if task.id in told or task.worker_id is None:
            continue
        if task.started_at is not None and task.completed_at is not None:
            found.append(
                Span(
                    task_id=task.id,
                    worker_id=task.worker_id,
                    status=WORKING,
                    start=task.started_at,
                    end=max(task.started_at, task.completed_at),
                    next_status=task.status,
                )
            )
    return tuple(sorted(found, key=lambda span: (span.start, span.task_id)))


def covered_ms(intervals: Iterable[tuple[int, int]]) -> int:
    """The time that the intervals cover together, overlaps counted once."""
    covered, reached = 0, None
    for start, end in sorted(intervals):
        begin = start if reached is None else max(start, reached)
        if end > begin:
            covered += end - begin
            reached = end
    return covered


def _spans_of_task(rows: list[Transition], until: int) -> Iterator[Span]:
    status = worker_id = None
    for index, row in enumerate(rows):
        following = rows[index + 1] if index + 1 < len(rows) else None
        if row.status is not None:
            status, worker_id = row.status, row.worker_id
        if status is None:
            continue
        end = row.end_timestamp
        if end is None:
            end = following.timestamp if following else until
        yield Span(
            task_id=row.task_id,
            worker_id=worker_id,
            status=status,
            start=row.timestamp,
            end=max(row.timestamp, end),
            next_status=(following.status or status) if following else None,
        )


def _merged(found: Iterable[Span]) -> Iterator[Span]:
    """Join spans that a change of phase alone had parted."""
    last: Span | None = None
    for span in found:
        if last and (last.status, last.worker_id) == (span.status, span.worker_id):
            last = Span(
                last.task_id, last.worker_id, last.status, last.start, span.end, span.next_status
            )
            continue
        if last:
            yield last
        last = span
    if last:
        yield last
