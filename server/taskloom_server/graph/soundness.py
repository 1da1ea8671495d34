"""Whether a workflow holds together: what it names is there, and every task can come to an end."""

import difflib
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from taskloom_server.graph.workflows import Unknown, Workflow

ROLES_OF_STATES = ("initial", "assign", "claim", "complete", "fail", "cancel", "disconnect")


class Problem(NamedTuple):
    """What is wrong, and where: the way to it through a workflow file."""

    where: tuple[str | int, ...]
    what: str


def near(name: str, known: Iterable[str]) -> str:
    """What may have been meant by a name that is not known, or else what there is."""
    known = list(known)
    alike = difflib.get_close_matches(name, known, 1)
    if alike:
        return f"did you mean {alike[0]!r}?"
    return f"there are {', '.join(known)}" if known else "there are none"


def first_problem(workflow: Workflow) -> Problem | None:
    """What is wrong with a workflow, or the first thing that is; None: it is sound."""
    checks: tuple[Callable[[Workflow], Iterator[Problem]], ...] = (
        _names,
        _states,
        _settings,
        _ends,
        _gates,
        _combinations,
        _roles,
    )
    for check in checks:
        for problem in check(workflow):
            return problem
    return None


def _state_settings(workflow: Workflow) -> Iterator[tuple[str, str]]:
    for role in ROLES_OF_STATES:
        yield f"{role}_state", getattr(workflow, f"{role}_state")


def _names(workflow: Workflow) -> Iterator[Problem]:
    """Every state that is named is there."""

    def missing(where: tuple[str, ...], names: Iterable[str]) -> Iterator[Problem]:
        for name in names:
            if name not in workflow.states:
                hint = near(name, workflow.states)
                yield Problem(where, f"there is no state {name!r}; {hint}")

    if not workflow.states:
        yield Problem(("states",), "there are none; a workflow needs a beginning and an end")
    for state in workflow.states.values():
        yield from missing(("states", state.name, "exits"), state.exits)
    for field, name in _state_settings(workflow):
        yield from missing(("settings", field), [name])
    yield from missing(("settings", "blocking_states"), sorted(workflow.blocking_states))
    if workflow.auto_advance:
        yield from missing(("settings", "auto_advance"), [workflow.auto_advance])


def _states(workflow: Workflow) -> Iterator[Problem]:
    """No state contradicts itself."""
    for state in workflow.states.values():
        here = ("states", state.name)
        twice = next((e for n, e in enumerate(state.exits) if e in state.exits[:n]), None)
        if twice is not None:
            yield Problem((*here, "exits"), f"names {twice!r} twice; once is enough")
        if state.name in state.exits:
            yield Problem((*here, "exits"), "leads to itself, which is no move; take it out")
        if state.parked and state.terminal:
            yield Problem(
                (*here, "parked"), "a task in it has ended, and waits for nothing; drop one of both"
            )
        if state.wip_limit is None:
            continue
        if state.wip_limit < 1:
            yield Problem(
                (*here, "wip_limit"), f"is {state.wip_limit}; it must be 1 or more, or left out"
            )
        if state.terminal:
            yield Problem((*here, "wip_limit"), "what has ended is no work in progress; drop it")
        if state.name in (workflow.initial_state, workflow.disconnect_state):
            yield Problem(
                (*here, "wip_limit"),
                "tasks come here by themselves, so there can be no limit; drop it",
            )


def _settings(workflow: Workflow) -> Iterator[Problem]:
    """The states of the settings are fit for what they are for."""
    states = workflow.states
    for field in ("initial_state", "assign_state", "claim_state", "disconnect_state"):
        name = getattr(workflow, field)
        where = ("settings", field)
        if states[name].parked:
            yield Problem(where, f"{name!r} is parked, and holds its worker; name another state")
        if states[name].terminal and field != "disconnect_state":
            yield Problem(where, f"a task in {name!r} has ended; name another state")
    for field in ("complete_state", "fail_state", "cancel_state"):
        name = getattr(workflow, field)
        if not states[name].terminal:
            yield Problem(
                ("settings", field), f"a task in {name!r} has not ended; name a terminal state"
            )
    initial = states[workflow.initial_state]
    lost = states[workflow.disconnect_state]
    if initial.name not in (lost.name, *lost.exits):
        yield Problem(
            ("settings", "disconnect_state"),
            f"has no exit to the initial state; give {lost.name!r} the exit {initial.name!r}, "
            f"or name {initial.name!r} here",
        )
    for field in ("assign_state", "claim_state"):
        name = getattr(workflow, field)
        if name != initial.name and name not in initial.exits:
            yield Problem(
                ("settings", field),
                f"the initial state {initial.name!r} has no exit to {name!r}; add it",
            )
    target = workflow.auto_advance
    if target:
        here = ("settings", "auto_advance")
        if target not in initial.exits:
            yield Problem(
                here, f"the initial state {initial.name!r} has no exit to {target!r}; add it"
            )
        if states[target].terminal or states[target].parked:
            yield Problem(here, f"no work begins in {target!r}; name another state")
        for to in (workflow.assign_state, workflow.claim_state, initial.name):
            if to not in (target, *states[target].exits):
                yield Problem(
                    here,
                    f"tasks are taken from {target!r} and given back, but it has no exit to "
                    f"{to!r}; add it",
                )


def _ends(workflow: Workflow) -> Iterator[Problem]:
    """From every state there is a way to an end."""
    ends = {state.name for state in workflow.states.values() if state.terminal}
    initial = workflow.initial_state
    if ends.isdisjoint(_reachable(workflow, initial)):
        yield Problem(
            ("settings", "initial_state"),
            f"from {initial!r} no exit leads to an end, however far one goes; "
            "give some state an exit to a terminal one",
        )
    for name in workflow.states:
        if ends.isdisjoint(_reachable(workflow, name)):
            yield Problem(
                ("states", name, "exits"),
                "no end can be reached from here, however far one goes; add an exit that leads "
                "to a terminal state",
            )
    if workflow.complete_state not in _reachable(workflow, workflow.claim_state):
        yield Problem(
            ("settings", "complete_state"),
            f"{workflow.complete_state!r} cannot be reached from {workflow.claim_state!r}, where "
            "a claim puts a task; add the exits that lead there",
        )


def _reachable(workflow: Workflow, start: str) -> set[str]:
    """The states to which exits lead from one, itself included."""
    reached, ahead = {start}, [start]
    while ahead:
        for exit_ in workflow.states[ahead.pop()].exits:
            if exit_ not in reached:
                reached.add(exit_)
                ahead.append(exit_)
    return reached


def _gates(workflow: Workflow) -> Iterator[Problem]:
    """Gates stand where something can be left, and can be satisfied."""
    types = workflow.attachment_types
    for key, gates in workflow.gates.items():
        here = ("gates", key)
        kind, _, name = key.partition(":")
        if kind not in ("status", "phase") or not name:
            yield Problem(here, "must be status:NAME or phase:NAME, such as status:working")
        elif kind == "phase" and name not in workflow.phases:
            yield Problem(here, f"there is no phase {name!r}; {near(name, workflow.phases)}")
        elif kind == "status" and name not in workflow.states:
            yield Problem(here, f"there is no status {name!r}; {near(name, workflow.states)}")
        elif kind == "status" and not workflow.states[name].exits:
            yield Problem(here, f"{name!r} has no exits, so it is never left; drop the gate")
        seen: set[str] = set()
        for number, gate in enumerate(gates):
            place = (*here, number)
            if gate.name in seen:
                yield Problem(place, f"there are two gates {gate.name!r} here; rename one")
            seen.add(gate.name)
            wanted = gate.attachment_type
            if workflow.unknown_attachment_type is Unknown.REJECT and wanted not in types:
                yield Problem(
                    (*place, "attachment"),
                    f"attachments of type {wanted!r} are refused, since attachment_types does not "
                    f"list it, so nothing can satisfy the gate; {near(wanted, types)}",
                )


def _combinations(workflow: Workflow) -> Iterator[Problem]:
    """Prompts for a state and a phase are for ones that there are."""
    for state, phase in workflow.combination_prompts:
        here = ("combinations", f"{state}+{phase}")
        if state not in workflow.states:
            yield Problem(here, f"there is no state {state!r}; {near(state, workflow.states)}")
        if phase not in workflow.phases:
            yield Problem(here, f"there is no phase {phase!r}; {near(phase, workflow.phases)}")


def _roles(workflow: Workflow) -> Iterator[Problem]:
    """Every role can be somebody's."""
    for number, role in enumerate(workflow.roles):
        here = ("roles", role.name)
        if role.max_claims is not None and role.max_claims < 1:
            yield Problem(
                (*here, "max_claims"), f"is {role.max_claims}; it must be 1 or more, or left out"
            )
        for earlier in workflow.roles[:number]:
            if earlier.tags <= role.tags:
                yield Problem(
                    (*here, "tags"),
                    f"whoever has these tags has the role {earlier.name!r}, which stands above; "
                    f"put {role.name!r} above it",
                )
