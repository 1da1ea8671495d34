"""Overlays: what is laid over a workflow for one worker."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from taskloom_server.graph.errors import OverlayUnfit
from taskloom_server.graph.prompts import Prompt, joined
from taskloom_server.graph.soundness import ROLES_OF_STATES, first_problem, near
from taskloom_server.graph.workflows import (
    AttachmentType,
    Gate,
    Phase,
    Role,
    State,
    Workflow,
)

MAX_OVERLAYS = 16  # on one worker

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Prompts:
    """What is said on entering and on leaving."""

    enter: Prompt | None = None
    exit: Prompt | None = None


@dataclass(frozen=True, slots=True)
class Removed:
    """What an overlay takes out of a workflow."""

    states: tuple[str, ...] = ()
    exits: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # by the state they leave
    phases: tuple[str, ...] = ()
    gates: tuple[str, ...] = ()  # all of "status:x", all of "phase:y"
    prompts: tuple[str, ...] = ()  # those of "status:x", of "phase:y", or of "x+y"
    roles: tuple[str, ...] = ()
    attachment_types: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Overlay:
    """What is taken out of a workflow, and then what is added to it.

    Prompts are added below those that are there. A gate, a role or a type of attachment that has
    the name of one that is there takes its place. Roles stand above those of the workflow.
    """

    name: str
    description: str
    workflows: tuple[str, ...] = ()  # it fits these; empty: any that it can be laid over
    removed: Removed = Removed()
    state_prompts: Mapping[str, Prompts] = field(default_factory=dict)
    phases: Mapping[str, Phase] = field(default_factory=dict)
    combination_prompts: Mapping[tuple[str, str], Prompt] = field(default_factory=dict)
    gates: Mapping[str, tuple[Gate, ...]] = field(default_factory=dict)
    roles: tuple[Role, ...] = ()
    attachment_types: Mapping[str, AttachmentType] = field(default_factory=dict)

    def over(self, workflow: Workflow) -> Workflow:
        """The workflow with this laid over it. Raises OverlayUnfit."""
        if self.workflows and workflow.name not in self.workflows:
            raise OverlayUnfit(
                f"overlay {self.name!r} is for {', '.join(self.workflows)}, "
                f"not for {workflow.name!r}",
                subjects=self.workflows,
                where=("workflows",),
            )
        laid_over = self._add(self._remove(workflow))
        problem = first_problem(laid_over)
        if problem is not None:
            raise OverlayUnfit(
                f"overlay {self.name!r} does not fit workflow {workflow.name!r}: "
                f"{'.'.join(map(str, problem.where))}: {problem.what}",
                subjects=(workflow.name,),
                where=problem.where,
            )
        return laid_over

    def _unfit(self, workflow: Workflow, subject: str, why: str, *where: str) -> OverlayUnfit:
        return OverlayUnfit(
            f"overlay {self.name!r} does not fit workflow {workflow.name!r}: {why}",
            subjects=(subject,),
            where=where,
        )

    def _remove(self, workflow: Workflow) -> Workflow:
        removed = self.removed
        phases = self._without(workflow, workflow.phases, removed.phases, "phases")
        states = self._remove_states(workflow)
        gates = self._without(workflow, workflow.gates, removed.gates, "gates")
        there = {role.name: role for role in workflow.roles}
        roles = self._without(workflow, there, removed.roles, "roles")
        types = self._without(
            workflow, workflow.attachment_types, removed.attachment_types, "attachment_types"
        )
        combinations = dict(workflow.combination_prompts)
        for key in removed.prompts:
            kind, _, name = key.partition(":")
            state, _, phase = key.partition("+")
            if kind == "status" and name in states:
                states[name] = replace(states[name], enter_prompt=None, exit_prompt=None)
            elif kind == "phase" and name in phases:
                phases[name] = Phase(name)
            elif combinations.pop((state, phase), None) is None:
                why = f"it has no prompts {key!r} that could be removed"
                raise self._unfit(workflow, key, why, "remove", "prompts")
        return replace(
            workflow,
            states=states,
            phases=phases,
            # What hangs on a state or a phase goes with it.
            gates={key: each for key, each in gates.items() if _is_there(key, states, phases)},
            combination_prompts={
                key: prompt
                for key, prompt in combinations.items()
                if key[0] in states and key[1] in phases
            },
            blocking_states=workflow.blocking_states & states.keys(),
            roles=tuple(roles.values()),
            attachment_types=types,
        )

    def _without(
        self, workflow: Workflow, there: Mapping[str, Value], removed: Iterable[str], what: str
    ) -> dict[str, Value]:
        left = dict(there)
        for name in removed:
            if name not in left:
                why = f"it has no {name!r} among its {what} to be removed; {near(name, there)}"
                raise self._unfit(workflow, name, why, "remove", what)
            del left[name]
        return left

    def _remove_states(self, workflow: Workflow) -> dict[str, State]:
        states = self._without(workflow, workflow.states, self.removed.states, "states")
        for name, exits in self.removed.exits.items():
            if name not in states:
                why = f"it has no state {name!r} whose exits could be removed"
                raise self._unfit(workflow, name, why, "remove", "exits", name)
            for exit_ in exits:
                if exit_ not in states[name].exits:
                    why = f"state {name!r} has no exit {exit_!r} to be removed"
                    raise self._unfit(workflow, exit_, why, "remove", "exits", name)
            kept = tuple(exit_ for exit_ in states[name].exits if exit_ not in exits)
            states[name] = replace(states[name], exits=kept)
        for gone in self.removed.states:
            for user in _users(workflow, states, gone):
                why = f"state {gone!r} cannot be removed, for it is in use: {user}"
                raise self._unfit(workflow, gone, why, "remove", "states")
        return states

    def _add(self, workflow: Workflow) -> Workflow:
        states = dict(workflow.states)
        for name, said in self.state_prompts.items():
            state = states.get(name)
            if state is None:
                why = f"there is no state {name!r} to say something in; {near(name, states)}"
                raise self._unfit(workflow, name, why, "states", name)
            states[name] = replace(
                state,
                enter_prompt=joined(state.enter_prompt, said.enter),
                exit_prompt=joined(state.exit_prompt, said.exit),
            )
        phases = dict(workflow.phases)
        for name, phase in self.phases.items():
            had = phases.get(name, Phase(name))
            phases[name] = Phase(
                name,
                joined(had.enter_prompt, phase.enter_prompt),
                joined(had.exit_prompt, phase.exit_prompt),
            )
        combinations = dict(workflow.combination_prompts)
        for pair, prompt in self.combination_prompts.items():
            combinations[pair] = joined(combinations.get(pair), prompt) or prompt
        gates = dict(workflow.gates)
        for key, added in self.gates.items():
            names = {gate.name for gate in added}
            kept = tuple(gate for gate in gates.get(key, ()) if gate.name not in names)
            gates[key] = (*kept, *added)
        names = {role.name for role in self.roles}
        return replace(
            workflow,
            states=states,
            phases=phases,
            combination_prompts=combinations,
            gates=gates,
            roles=(*self.roles, *(role for role in workflow.roles if role.name not in names)),
            attachment_types={**workflow.attachment_types, **self.attachment_types},
        )


def _is_there(key: str, states: Mapping[str, State], phases: Mapping[str, Phase]) -> bool:
    kind, _, name = key.partition(":")
    return name in (states if kind == "status" else phases)


def _users(workflow: Workflow, states: Mapping[str, State], gone: str) -> Iterator[str]:
    """What still needs a state that is to be removed."""
    for role in ROLES_OF_STATES:
        if getattr(workflow, f"{role}_state") == gone:
            yield f"it is the {role}_state"
    if workflow.auto_advance == gone:
        yield "it is where auto_advance leads"
    for state in states.values():
        if gone in state.exits:
            yield f"{state.name!r} exits to it; remove that exit, too"
