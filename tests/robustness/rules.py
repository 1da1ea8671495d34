"""What the workflow files allow, read from the files and not by the server's code."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import taskloom_server
import yaml

DEFAULT = "swarm"
_FOLDER = Path(taskloom_server.__file__).parent / "workflows"
_RIGHTS = ("can_assign", "can_create_subtasks", "can_force", "can_claim")

Gates = dict[str, tuple[str, ...]]  # by what is left: the types of attachments that must be there


@dataclass(frozen=True)
class Role:
    """What a worker with these tags may do."""

    tags: frozenset[str]
    rights: frozenset[str]


@dataclass(frozen=True)
class Workflow:
    """What one workflow file allows."""

    exits: dict[str, frozenset[str]]
    terminal: frozenset[str]
    blocking: frozenset[str]
    parked: frozenset[str]
    initial: str
    assigned: str
    claimed: str
    disconnected: str
    completed: str
    failed: str
    cancelled: str
    limits: dict[str, int]  # by state: how many of its tasks may be in it
    gates: Gates  # those that keep a task
    roles: tuple[Role, ...]

    def may(self, tags: Iterable[str], right: str) -> bool:
        """Whether a worker with these tags may do something: where there are roles, by its role."""
        having = frozenset(tags)
        role = next((one for one in self.roles if one.tags <= having), None)
        if all(right in one.rights for one in self.roles):
            return True
        return role is not None and right in role.rights

    def is_open(self, status: str, to: str) -> bool:
        """Whether no gate keeps this move: it takes a task up, gives it back, or gives it up."""
        taken_up = to in (self.assigned, self.claimed) and status in (self.initial, self.assigned)
        given_up = (self.initial, self.disconnected, self.failed, self.cancelled)
        return taken_up or to in given_up


@dataclass(frozen=True)
class Rules:
    """All workflows, and the gates that overlays add."""

    workflows: dict[str, Workflow]
    overlays: dict[str, Gates]

    def of(self, image: Any) -> Workflow:
        """The workflow of a task or of a worker."""
        return self.workflows[image.workflow or DEFAULT]

    def open_statuses(self) -> frozenset[str]:
        """The statuses of tasks that have not ended."""
        return frozenset(
            status
            for workflow in self.workflows.values()
            for status in workflow.exits.keys() - workflow.terminal
        )

    def gates(self, before: Any, after: Any, left: str, overlays: Collection[str]) -> set[str]:
        """What must be attached where a task leaves a status, its phase, or both.

        ``before`` and ``after`` are the task, ``overlays`` those of who moves it.
        """
        workflow = self.of(before)
        moves = after.status != left
        places = []
        if moves and not workflow.is_open(left, after.status):
            places.append(f"status:{left}")
        if before.phase and (
            after.phase != before.phase or (moves and after.status == workflow.completed)
        ):
            places.append(f"phase:{before.phase}")
        laid = [workflow.gates, *(self.overlays[name] for name in overlays)]
        return {type_ for gates in laid for place in places for type_ in gates.get(place, ())}


@cache
def read_rules() -> Rules:
    """The rules of what is built in; read once."""
    return Rules(
        {path.stem: _workflow(_read(path)) for path in sorted(_FOLDER.glob("*.yaml"))},
        {path.stem: _gates(_read(path)) for path in sorted(_FOLDER.glob("overlays/*.yaml"))},
    )


def _read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _workflow(file: Any) -> Workflow:
    states, settings = file["states"], file["settings"]
    return Workflow(
        exits={state: frozenset(rules["exits"]) for state, rules in states.items()},
        terminal=frozenset(state for state, rules in states.items() if rules.get("terminal")),
        blocking=frozenset(settings["blocking_states"]),
        parked=frozenset(state for state, rules in states.items() if rules.get("parked")),
        initial=settings["initial_state"],
        assigned=settings["assign_state"],
        claimed=settings["claim_state"],
        disconnected=settings["disconnect_state"],
        completed=settings["complete_state"],
        failed=settings["fail_state"],
        cancelled=settings["cancel_state"],
        limits={s: rules["wip_limit"] for s, rules in states.items() if "wip_limit" in rules},
        gates=_gates(file),
        roles=tuple(_role(role) for role in file.get("roles", {}).values()),
    )


def _gates(file: Any) -> Gates:
    return {
        place: tuple(gate["attachment"] for gate in gates if gate["enforcement"] != "allow")
        for place, gates in file.get("gates", {}).items()
    }


def _role(role: Any) -> Role:
    # Who can claim only what is "assigned" cannot claim what is not.
    rights = frozenset(right for right in _RIGHTS if role.get(right, True) is True)
    return Role(frozenset(role["tags"]), rights)
