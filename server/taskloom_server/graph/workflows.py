"""Workflows: the states of tasks and the rules between them. Loading them is main's work."""

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from taskloom_server.graph.errors import (
    IllegalTransition,
    OverlayNotFound,
    OverlayUnfit,
    WorkflowNotFound,
)
from taskloom_server.graph.prompts import Prompt

if TYPE_CHECKING:  # overlays are made of what is here
    from taskloom_server.graph.overlays import Overlay

_MAX_LAID_OVER = 1_000  # workflows with overlays that are kept: what workers ask for is few


class Parents(StrEnum):
    """What becomes of an unowned, open parent when its last child ends."""

    ROLLUP = "rollup"  # it completes by itself
    CLAIM = "claim"  # it becomes ready


class Unknown(StrEnum):
    """What becomes of a phase, or of a type of attachment, that the workflow does not list."""

    ALLOW = "allow"
    WARN = "warn"  # it is taken, and the answer says so
    REJECT = "reject"


class Enforcement(StrEnum):
    """What becomes of a move that a gate is not satisfied for."""

    ALLOW = "allow"  # it is made, and the answer says what is missing
    WARN = "warn"  # it is refused unless it is forced, and that is recorded
    REJECT = "reject"


class Keeping(StrEnum):
    """What becomes of the attachments of a type when another one comes."""

    APPEND = "append"
    REPLACE = "replace"


@dataclass(frozen=True, slots=True)
class State:
    """A state, and what being in it means."""

    name: str
    exits: tuple[str, ...]
    timed: bool = False  # a stay counts as time worked
    terminal: bool = False  # a task in it has ended
    parked: bool = False  # it waits for something outside: its claim's lease stands still
    wip_limit: int | None = None  # how many tasks may be in it at once
    enter_prompt: Prompt | None = None
    exit_prompt: Prompt | None = None


@dataclass(frozen=True, slots=True)
class Phase:
    """A kind of work, such as "implement"."""

    name: str
    enter_prompt: Prompt | None = None
    exit_prompt: Prompt | None = None


@dataclass(frozen=True, slots=True)
class Gate:
    """What must be attached to a task before it may leave a status or a phase."""

    name: str
    attachment_type: str  # one attachment of it satisfies the gate
    enforcement: Enforcement
    description: str = ""


class Right(StrEnum):
    """What a role may or may not let a worker do."""

    ASSIGN = "assign"
    CREATE_SUBTASKS = "create_subtasks"
    FORCE = "force"
    CLAIM = "claim"


@dataclass(frozen=True, slots=True)
class Role:
    """What workers with these tags may do. A worker has the first role whose tags it all has."""

    name: str
    tags: frozenset[str]
    description: str = ""
    max_claims: int | None = None  # at most so many, whatever it asks for; None: as it asks
    can_assign: bool = True
    can_create_subtasks: bool = True
    can_force: bool = True
    can_claim: bool = True  # False: it begins only what is assigned to it
    prompt: Prompt | None = None  # for a worker that connects

    def may(self, right: Right) -> bool:
        """Whether it has a right."""
        has: bool = getattr(self, f"can_{right}")
        return has


@dataclass(frozen=True, slots=True)
class AttachmentType:
    """What is attached under this name."""

    name: str
    mime_type: str = ""  # of attachments that do not say; empty: text/plain
    keeping: Keeping = Keeping.APPEND
    description: str = ""


@dataclass(frozen=True, slots=True)
class Topology:
    """How a workflow is meant to be used, in words. Nothing is decided by it."""

    phase_model: str = ""
    coordination: str = ""
    granularity: str = ""
    default_dependencies: str = ""
    agents: str = ""


@dataclass(frozen=True, slots=True)
class Workflow:
    """A named set of states, phases and rules."""

    name: str
    description: str
    states: Mapping[str, State]
    phases: Mapping[str, Phase]
    initial_state: str  # tasks begin in it, and are claimed from it (see auto_advance)
    assign_state: str  # an assignment puts a task there
    claim_state: str  # a claim puts a task there
    complete_state: str
    cancel_state: str
    fail_state: str
    disconnect_state: str  # a claim that ended without a word leaves the task there
    blocking_states: frozenset[str]  # a blocker in one of these holds its dependents back
    parents: Parents = Parents.ROLLUP
    unknown_phase: Unknown = Unknown.REJECT
    topology: Topology = Topology()
    # By state and phase: for a task that comes to be in both, by a move of either.
    combination_prompts: Mapping[tuple[str, str], Prompt] = field(default_factory=dict)
    gates: Mapping[str, tuple[Gate, ...]] = field(default_factory=dict)  # by "status:x", "phase:y"
    roles: tuple[Role, ...] = ()
    attachment_types: Mapping[str, AttachmentType] = field(default_factory=dict)
    unknown_attachment_type: Unknown = Unknown.ALLOW
    # Where a task goes from the initial state when what held it back is gone, and from where it
    # is claimed as well; empty: it stays.
    auto_advance: str = ""
    connect_prompt: Prompt | None = None  # for whoever connects
    denied: frozenset[Right] = field(init=False)  # what one of the roles may not

    def __post_init__(self) -> None:
        denied = (right for right in Right if not all(role.may(right) for role in self.roles))
        object.__setattr__(self, "denied", frozenset(denied))

    def begins(self, status: str) -> bool:
        """Whether tasks in this status wait to be claimed, if nothing else holds them back."""
        return status in (self.initial_state, self.auto_advance)

    def role_of(self, tags: Collection[str]) -> Role | None:
        """The first role whose tags are all among these."""
        have = frozenset(tags)
        return next((role for role in self.roles if role.tags <= have), None)

    def blocks(self, status: str) -> bool:
        """Whether a task in this status holds back what depends on it.

        One in a status that the workflow does not have any more does, for it cannot have ended.
        """
        return status in self.blocking_states or status not in self.states

    def exits_of(self, status: str) -> tuple[str, ...]:
        """The states that may follow; from one that is gone there is the way to the beginning."""
        state = self.states.get(status)
        return state.exits if state is not None else (self.initial_state,)

    def way(self, status: str, to: str) -> tuple[str, ...]:
        """The shortest way to a state, without its beginning; none: there is no way, or no need.

        It leads through no end.
        """
        ways: dict[str, tuple[str, ...]] = {status: ()}
        queue = deque([status])
        while queue and to not in ways:
            at = queue.popleft()
            for exit_ in self.exits_of(at):
                if exit_ not in ways:
                    ways[exit_] = (*ways[at], exit_)
                    if not self.states[exit_].terminal:
                        queue.append(exit_)
        return ways.get(to, ())

    def check_exit(self, task_id: str, status: str, to: str) -> None:
        """Raise IllegalTransition unless ``status`` exits to ``to``."""
        if to not in self.states:
            raise IllegalTransition(
                f"workflow {self.name!r} has no state {to!r}; it has {', '.join(self.states)}",
                subjects=tuple(self.states),
            )
        exits = self.exits_of(status)
        if to not in exits:
            ways = f"its exits are {', '.join(exits)}" if exits else "it has no exits"
            raise IllegalTransition(
                f"task {task_id!r} is {status!r} and cannot become {to!r}; {ways}",
                subjects=exits,
                metadata={"status": status},
            )


@dataclass(frozen=True, slots=True)
class Workflows:
    """The workflows in force, by name, and the overlays that workers may put on them."""

    by_name: Mapping[str, Workflow]
    default_name: str
    overlays: Mapping[str, "Overlay"] = field(default_factory=dict)
    open_statuses: tuple[str, ...] = field(init=False)  # of all workflows: not terminal
    assigning: tuple[str, ...] = field(init=False)  # that have roles which may not claim
    _laid_over: dict[tuple[str, tuple[str, ...]], Workflow] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )

    def __post_init__(self) -> None:
        states = [s for w in self.by_name.values() for s in w.states.values()]
        statuses = sorted({s.name for s in states if not s.terminal})
        object.__setattr__(self, "open_statuses", tuple(statuses))
        assigning = [w.name for w in self.by_name.values() if Right.CLAIM in w.denied]
        object.__setattr__(self, "assigning", tuple(assigning))

    def get(self, name: str, overlays: Sequence[str] = ()) -> Workflow:
        """The workflow of this name, or the default for an empty one, with overlays on it.

        Raises WorkflowNotFound, OverlayNotFound, OverlayUnfit.
        """
        name = name or self.default_name
        try:
            workflow = self.by_name[name]
        except KeyError:
            raise WorkflowNotFound(
                f"there is no workflow {name!r}; there are {', '.join(sorted(self.by_name))}",
                subjects=sorted(self.by_name),
            ) from None
        return self._lay_over(workflow, tuple(overlays)) if overlays else workflow

    def blocks(self, name: str, status: str) -> bool:
        """Whether a task of this workflow, in this status, holds back what depends on it.

        One of a workflow that is not loaded any more is taken to.
        """
        workflow = self.by_name.get(name)
        return workflow is None or workflow.blocks(status)

    def for_worker(self, name: str, overlays: Sequence[str]) -> Workflow:
        """The workflow with those of the overlays that there are, and that fit it.

        A worker's overlays were chosen for its own workflow, as it was then; a task may be of
        another. Raises WorkflowNotFound.
        """
        workflow = self.get(name)
        if not overlays:
            return workflow
        try:
            return self._lay_over(workflow, tuple(overlays))
        except (OverlayNotFound, OverlayUnfit):
            return self._lay_over(workflow, self.fitting(name, overlays))

    def fitting(self, name: str, overlays: Sequence[str]) -> tuple[str, ...]:
        """Those of the overlays that fit the workflow, one upon the other, in their order.

        Raises WorkflowNotFound.
        """
        fit: tuple[str, ...] = ()
        for overlay in overlays:
            try:
                self.get(name, (*fit, overlay))
            except (OverlayNotFound, OverlayUnfit):
                continue
            fit = (*fit, overlay)
        return fit

    def _lay_over(self, workflow: Workflow, overlays: tuple[str, ...]) -> Workflow:
        known = self._laid_over.get((workflow.name, overlays))
        if known is not None:
            return known
        laid_over = workflow
        for name in overlays:
            overlay = self.overlays.get(name)
            if overlay is None:
                there = ", ".join(sorted(self.overlays)) or "none"
                raise OverlayNotFound(
                    f"there is no overlay {name!r}; there are {there}", subjects=(name,)
                )
            laid_over = overlay.over(laid_over)
        if len(self._laid_over) >= _MAX_LAID_OVER:
            self._laid_over.clear()
        self._laid_over[workflow.name, overlays] = laid_over
        return laid_over


@dataclass(slots=True)
class InForce:
    """The workflows in force, since when, and what was wrong with newer ones that are not."""

    workflows: Workflows
    loaded_at: int  # Unix ms
    error: str = ""  # of the last reading of the files; empty: it went well
    failed_at: int | None = None  # Unix ms
