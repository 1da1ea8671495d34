"""What ``watch --until`` waits for: which tasks, and which of them are not there yet.

It is told what the watch is told, revision by revision, and asks nobody.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from taskloom import v1

from taskloom_client.cli.exits import ExitCode, Failure
from taskloom_client.cli.values import count

if TYPE_CHECKING:
    from taskloom.v1 import Event, Task, WatchTasksResponse, Workflow

_MOST_NAMED = 3


class Goal:
    """All of the tasks are in one of some statuses, or have ended.

    ``statuses`` is where they are to be; empty: the tasks are to have ended, each in the way of its
    workflow, or to be deleted. ``named`` are the tasks that the user named: those without which
    there is nothing to wait for. ``workflows`` are all that there are.

    Tasks that come to be while one waits, or come into the subtree, are waited for as well; those
    that leave it, and those that are deleted and were not named, are not any more.
    """

    def __init__(
        self, statuses: Iterable[str], named: Iterable[str], workflows: Iterable["Workflow"]
    ) -> None:
        self._statuses = frozenset(statuses)
        self._named = frozenset(named)
        self._ends = {
            workflow.name: {state.name for state in workflow.states if state.terminal}
            for workflow in workflows
        }
        self._begin()

    def _begin(self) -> None:
        self._synced = False
        self._seen: set[str] = set()
        self._open: dict[str, str] = {}  # those that are not there, and where they are
        self._ended: dict[str, str] = {}  # those that have ended elsewhere, and how

    def reached(self) -> bool:
        """Whether all are there. Raises Failure when one has ended elsewhere."""
        if self._synced and self._ended:
            raise Failure(
                f"{count(len(self._ended), 'task')} ended otherwise than {self._where}: "
                f"{_listed(self._ended)}",
                ExitCode.ENDED_OTHERWISE,
            )
        return self._synced and not self._open and self._named <= self._seen

    @property
    def unseen(self) -> frozenset[str]:
        """The tasks that the user named and of which nothing was told."""
        return self._named - self._seen if self._synced else frozenset()

    def tell(self, message: "WatchTasksResponse") -> None:
        """Take in what a message of the watch tells."""
        if message.HasField("created"):
            self._begin()
        elif message.HasField("synced"):
            self._synced = True
        for event in message.events.events:
            self._tell_event(event)

    def find(self, task: "Task") -> None:
        """Take in a named task that the watch began without: it is deleted, or just made."""
        self._seen.add(task.id)
        if task.HasField("delete_time"):
            self._lose(task.id)
        else:
            self._place(task)

    def too_late(self, waited: str) -> Failure:
        """The failure of a wait that was long enough."""
        if not self._synced:
            return Failure(f"no server answered within {waited}", ExitCode.UNREACHABLE)
        return Failure(
            f"within {waited} {count(len(self._open), 'task')} did not get to be {self._where}: "
            f"{_listed(self._open)}",
            ExitCode.NOT_IN_TIME,
        )

    def _tell_event(self, event: "Event") -> None:
        if not event.HasField("task"):
            return
        self._seen.add(event.task_id)
        if event.type == v1.EVENT_TYPE_TASK_DELETED:
            self._lose(event.task_id)
        elif event.type == v1.EVENT_TYPE_TASK_RENAMED and event.task_id in self._named:
            # Nothing will be told of the id that was named, so there is nothing to wait for.
            self._forget(event.task_id)
            self._ended[event.task_id] = f"now {event.task.id}"
        elif event.left_filter:
            self._forget(event.task_id)
        else:
            self._place(event.task)

    def _place(self, task: "Task") -> None:
        self._forget(task.id)
        ended = task.status in self._ends.get(task.workflow, ())
        if task.status in self._statuses or (ended and not self._statuses):
            return
        (self._ended if ended else self._open)[task.id] = task.status

    def _lose(self, task_id: str) -> None:
        self._forget(task_id)
        if self._statuses and task_id in self._named:
            self._ended[task_id] = "deleted"

    def _forget(self, task_id: str) -> None:
        self._open.pop(task_id, None)
        self._ended.pop(task_id, None)

    @property
    def _where(self) -> str:
        return " or ".join(sorted(self._statuses)) or "ended"


def _listed(tasks: Mapping[str, str]) -> str:
    """Such as "a is failed, b is cancelled, c is failed, and 7 more"."""
    named = [f"{id} is {status}" for id, status in list(tasks.items())[:_MOST_NAMED]]
    more = len(tasks) - len(named)
    return ", ".join([*named, *([f"and {more:,} more"] if more else [])])
