"""Steps: a task's way from one state and phase to others, and the prompts that it calls for."""

from collections.abc import Iterator
from typing import NamedTuple

from taskloom_server.graph.prompts import Prompt
from taskloom_server.graph.tasks import Task
from taskloom_server.graph.workers import Worker
from taskloom_server.graph.workflows import Workflow

Called = tuple[str, Prompt]  # what calls for a prompt, such as "enter:working", and the prompt


class Step(NamedTuple):
    """What has become of a task, for whom, and what it was before.

    ``left`` is its status and phase before; None: it begins anew for the worker, who enters
    both. A worker that ``takes_up`` a task enters its phase by that, whoever else was in it.
    """

    workflow: Workflow
    task: Task
    worker: Worker | None  # None: a person
    left: tuple[str, str | None] | None = None
    takes_up: bool = False

    def prompts(self) -> Iterator[Called]:
        """What the workflow says to it: of what was left first, then of what has begun."""
        status, phase = self.task.status, self.task.phase or ""
        was, was_in = self.left or ("", "")
        was_in = was_in or ""
        moves = status != was
        turns = phase != was_in
        enters = turns or self.takes_up
        states, phases = self.workflow.states, self.workflow.phases
        if moves and was in states and (prompt := states[was].exit_prompt):
            yield f"exit:{was}", prompt
        if turns and was_in in phases and (prompt := phases[was_in].exit_prompt):
            yield f"exit-phase:{was_in}", prompt
        if moves and status in states and (prompt := states[status].enter_prompt):
            yield f"enter:{status}", prompt
        if enters and phase in phases and (prompt := phases[phase].enter_prompt):
            yield f"enter-phase:{phase}", prompt
        if moves or enters:
            both = self.workflow.combination_prompts.get((status, phase))
            if both is not None:
                yield f"combination:{status}+{phase}", both

    def variables(self) -> dict[str, object]:
        """What a prompt may speak of: see ``graph.prompts.VARIABLES``."""
        task = self.task
        state = self.workflow.states.get(task.status)
        return {
            "current_status": task.status,
            "valid_exits": list(state.exits) if state else [],
            "current_phase": task.phase or "",
            "valid_phases": list(self.workflow.phases),
            "task": {
                "id": task.id,
                "title": task.title,
                "description": task.description,
                "priority": task.priority,
                "tags": list(task.tags),
                "attempts": task.attempts,
                "max_attempts": task.max_attempts,
                "parent_id": task.parent_id or "",
                "points": task.points or 0,
            },
            **_of_worker(self.workflow, self.worker),
        }


class Start(NamedTuple):
    """A worker begins to take part: no task is concerned yet."""

    workflow: Workflow
    worker: Worker

    def prompts(self) -> Iterator[Called]:
        """What the workflow says to whoever connects, to its role, and of tasks as they begin."""
        if self.workflow.connect_prompt is not None:
            yield "connect", self.workflow.connect_prompt
        role = self.workflow.role_of(self.worker.tags)
        if role is not None and role.prompt is not None:
            yield f"role:{role.name}", role.prompt
        initial = self.workflow.initial_state
        if prompt := self.workflow.states[initial].enter_prompt:
            yield f"enter:{initial}", prompt

    def variables(self) -> dict[str, object]:
        """Likewise, of a task that is none: it has the initial state, and all else is empty."""
        initial = self.workflow.states[self.workflow.initial_state]
        return {
            "current_status": initial.name,
            "valid_exits": list(initial.exits),
            "current_phase": "",
            "valid_phases": list(self.workflow.phases),
            "task": {
                "id": "",
                "title": "",
                "description": "",
                "priority": 0,
                "tags": [],
                "attempts": 0,
                "max_attempts": 0,
                "parent_id": "",
                "points": 0,
            },
            **_of_worker(self.workflow, self.worker),
        }


def _of_worker(workflow: Workflow, worker: Worker | None) -> dict[str, object]:
    role = workflow.role_of(worker.tags) if worker else None
    return {
        "worker": {
            "id": worker.id if worker else "",
            "tags": list(worker.tags) if worker else [],
            "role": role.name if role else "",
            "max_claims": worker.max_claims if worker else 0,
        },
        "workflow": {"name": workflow.name, "description": workflow.description},
    }
