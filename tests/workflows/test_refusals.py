"""What no workflow file may say: each refused with the file, the line and the field."""

from pathlib import Path

import pytest
from taskloom_server.workflow_files import (
    WorkflowFileError,
    load_workflows,
    read_overlay,
    read_workflow,
)

GOOD = """\
name: review
states:
  todo: {exits: [doing, dropped]}
  doing:
    exits: [todo, done, dropped]
    timed: true
    wip_limit: 3
    prompts:
      enter: |
        {{ task.id }} is yours.
        Ways on: {{ valid_exits }}.
  done: {exits: [todo], terminal: true}
  dropped: {exits: []}
phases:
  draft:
    prompts: {enter: Draft it.}
  final:
combinations:
  doing+draft: Only a draft.
roles:
  lead: {tags: [lead], max_claims: 5}
  anyone: {tags: [], can_force: false}
gates:
  status:doing:
    - {attachment: notes, enforcement: warn}
  phase:draft:
    - {attachment: draft}
attachment_types:
  notes: {mime_type: text/markdown, mode: replace}
  draft: {}
settings:
  initial_state: todo
  assign_state: doing
  claim_state: doing
  complete_state: done
  fail_state: dropped
  cancel_state: dropped
  disconnect_state: todo
  blocking_states: [todo, doing]
  unknown_attachment_type: reject
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the workflow file of a test lies."""
    return tmp_path / "review.yaml"


def test_the_good_file_is_good(path: Path) -> None:
    """What the refusals below are made from is read, with all that it says."""
    path.write_text(GOOD)
    workflow = read_workflow(path)
    assert workflow.states["doing"].wip_limit == 3
    assert [role.name for role in workflow.roles] == ["lead", "anyone"]
    assert workflow.gates["status:doing"][0].name == "notes"
    assert ("doing", "draft") in workflow.combination_prompts
    assert workflow.phases["draft"].enter_prompt is not None
    assert workflow.attachment_types["notes"].keeping == "replace"


# What is replaced by what, and then: the line, the field, and what is said.
WRONG: dict[str, tuple[str, str, int, str, str]] = {
    "an exit to a state that is not there": (
        "exits: [todo, done, dropped]",
        "exits: [todo, don, dropped]",
        5,
        "states.doing.exits",
        "there is no state 'don'; did you mean 'done'?",
    ),
    "no way to an end": (
        "  done: {exits: [todo], terminal: true}\n  dropped: {exits: []}",
        "  done: {exits: [todo]}\n  dropped: {exits: [todo]}",
        35,
        "settings.complete_state",
        "has not ended",
    ),
    "no end can be reached": (
        "todo: {exits: [doing, dropped]}\n  doing:\n    exits: [todo, done, dropped]",
        "todo: {exits: [doing]}\n  doing:\n    exits: [todo]",
        32,
        "settings.initial_state",
        "no exit leads to an end",
    ),
    "a trap": (
        "  dropped: {exits: []}",
        "  dropped: {exits: []}\n  pit: {exits: [hole]}\n  hole: {exits: [pit]}",
        14,
        "states.pit.exits",
        "no end can be reached from here",
    ),
    "a completion that no claim leads to": (
        "exits: [todo, done, dropped]",
        "exits: [todo, dropped]",
        35,
        "settings.complete_state",
        "cannot be reached from 'doing'",
    ),
    "two initial states": (
        "  assign_state: doing",
        "  initial_state: doing\n  assign_state: doing",
        33,
        "settings.initial_state",
        "is there twice, first in line 32",
    ),
    "a list of initial states": (
        "initial_state: todo",
        "initial_state: [todo, doing]",
        32,
        "settings.initial_state",
        "must be a string, and is a list",
    ),
    "a state twice": (
        "  dropped: {exits: []}",
        "  dropped: {exits: []}\n  todo: {exits: []}",
        14,
        "states.todo",
        "is there twice, first in line 3",
    ),
    "a prompt with an unknown variable": (
        "Ways on: {{ valid_exits }}.",
        "Ways on: {{ valid_exit }}.",
        11,
        "states.doing.prompts.enter",
        "'valid_exit', which is no variable; did you mean 'valid_exits'?",
    ),
    "a prompt that is no template": (
        "Only a draft.",
        '"{% if %}"',
        19,
        "combinations.doing+draft",
        "is not a template",
    ),
    "a gate for a phase that is not there": (
        "phase:draft:",
        "phase:draught:",
        26,
        "gates.phase:draught",
        "there is no phase 'draught'; did you mean 'draft'?",
    ),
    "a gate for a status that is not there": (
        "status:doing:",
        "status:done-ish:",
        24,
        "gates.status:done-ish",
        "there is no status 'done-ish'",
    ),
    "a gate on something else": (
        "status:doing:",
        "state:doing:",
        24,
        "gates.state:doing",
        "must be status:NAME or phase:NAME",
    ),
    "a gate that is never left": (
        "status:doing:",
        "status:dropped:",
        24,
        "gates.status:dropped",
        "never left",
    ),
    "a gate that nothing satisfies": (
        "attachment: notes,",
        "attachment: note,",
        25,
        "gates.status:doing.0.attachment",
        "did you mean 'notes'?",
    ),
    "two gates of one name": (
        "    - {attachment: draft}",
        "    - {attachment: draft}\n    - {attachment: draft}",
        28,
        "gates.phase:draft.1",
        "two gates 'draft'",
    ),
    "an enforcement that is none": (
        "enforcement: warn",
        "enforcement: warning",
        25,
        "gates.status:doing.0.enforcement",
        "did you mean 'warn'?",
    ),
    "an unknown key at the top": (
        "phases:",
        "phasis:",
        14,
        "phasis",
        "is no key here; did you mean 'phases'?",
    ),
    "an unknown key further down": (
        "wip_limit: 3",
        "wiplimit: 3",
        7,
        "states.doing.wiplimit",
        "did you mean 'wip_limit'?",
    ),
    "an end that waits": (
        "done: {exits: [todo], terminal: true}",
        "done: {exits: [todo], terminal: true, parked: true}",
        12,
        "states.done.parked",
        "has ended",
    ),
    "an end that says it is none": (
        "dropped: {exits: []}",
        "dropped: {exits: [], terminal: false}",
        13,
        "states.dropped.terminal",
        "without exits",
    ),
    "no room": ("wip_limit: 3", "wip_limit: 0", 7, "states.doing.wip_limit", "must be 1 or more"),
    "half a room": ("wip_limit: 3", "wip_limit: 2.5", 7, "states.doing.wip_limit", "whole number"),
    "a limit on an end": (
        "done: {exits: [todo],",
        "done: {wip_limit: 2, exits: [todo],",
        12,
        "states.done.wip_limit",
        "has ended is no work",
    ),
    "a limit on the beginning": (
        "todo: {exits",
        "todo: {wip_limit: 2, exits",
        3,
        "states.todo.wip_limit",
        "by themselves",
    ),
    "an exit twice": (
        "exits: [doing, dropped]",
        "exits: [doing, doing]",
        3,
        "states.todo.exits",
        "names 'doing' twice",
    ),
    "an exit to itself": (
        "exits: [doing, dropped]",
        "exits: [doing, todo]",
        3,
        "states.todo.exits",
        "leads to itself",
    ),
    "claims that lead where no exit does": (
        "exits: [doing, dropped]",
        "exits: [dropped, done]",
        33,
        "settings.assign_state",
        "has no exit to 'doing'",
    ),
    "work that begins where it ends": (
        "initial_state: todo",
        "initial_state: done",
        32,
        "settings.initial_state",
        "has ended",
    ),
    "an advance to nowhere": (
        "  unknown_attachment_type",
        "  auto_advance: ready\n  unknown_attachment_type",
        40,
        "settings.auto_advance",
        "there is no state 'ready'",
    ),
    "a role that nobody can have": (
        "lead: {tags: [lead], max_claims: 5}\n  anyone: {tags: [], can_force: false}",
        "anyone: {tags: [], can_force: false}\n  lead: {tags: [lead], max_claims: 5}",
        22,
        "roles.lead.tags",
        "put 'lead' above it",
    ),
    "a right that is neither": (
        "can_force: false}",
        "can_force: false, can_claim: assignd}",
        22,
        "roles.anyone.can_claim",
        "must be true or 'assigned', and is 'assignd'",
    ),
    "a right that would leave nothing": (
        "can_force: false}",
        "can_force: false, can_claim: false}",
        22,
        "roles.anyone.can_claim",
        "must be true or 'assigned', and is false",
    ),
    "a role without room": (
        "max_claims: 5",
        "max_claims: 0",
        21,
        "roles.lead.max_claims",
        "must be 1 or more",
    ),
    "a combination with a phase that is not there": (
        "doing+draft:",
        "doing+draught:",
        19,
        "combinations.doing+draught",
        "did you mean 'draft'?",
    ),
    "a combination of one": ("doing+draft:", "doing:", 19, "combinations.doing", "STATE+PHASE"),
    "a name with a blank": ("name: review", "name: re view", 1, "name", "has ' ' in it"),
    "a key that is no string": ("  final:", "  yes:", 17, "phases", "put it into quotes"),
    "a value that is no string": ("name: review", "name: on", 1, "name", "put it in quotes"),
    "a tag of YAML's": ("exits: []", "exits: !!set {}", 13, "states.dropped.exits", "take the tag"),
    "an unknown tag": ("name: review", "name: !x review", 1, "name", "cannot be read"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_named(path: Path, case: str) -> None:
    """One sentence names the file, the line and the field, and says what is wrong."""
    old, new, line, field, said = WRONG[case]
    assert old in GOOD
    path.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(WorkflowFileError) as caught:
        read_workflow(path)
    error = caught.value
    assert str(error).startswith(f"{path}:{line}: {field}: "), str(error)
    assert said in error.problem
    assert "\n" not in str(error)


def test_aliases_cannot_blow_a_file_up(path: Path) -> None:
    """A small file that means a large one is refused before it is made; so is one in itself."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    for text in ("\n".join(lines), "a: &a [*a]"):
        path.write_text(text)
        with pytest.raises(WorkflowFileError, match="do without aliases"):
            read_workflow(path)


def test_a_file_of_another_size(path: Path) -> None:
    """What is far too large to be a workflow is not even parsed."""
    path.write_text("#" * (2 << 20))
    with pytest.raises(WorkflowFileError, match="larger than 1024 KiB"):
        read_workflow(path)


def test_two_files_of_one_name(path: Path) -> None:
    """Two files of a folder may not give one name; both are named."""
    path.write_text(GOOD)
    second = path.with_name("zweite.yml")
    second.write_text("# the same\n" + GOOD)
    with pytest.raises(WorkflowFileError) as caught:
        load_workflows("swarm", path.parent)
    assert str(caught.value).startswith(
        f"{second}:2: name: 'review' is the name in review.yaml, too"
    )


# Overlays

OVERLAY = """\
name: strict
workflows: [swarm]
states:
  working: {prompts: {enter: Be strict.}}
remove:
  exits: {working: [waiting]}
  states: [waiting]
"""


@pytest.mark.parametrize(
    ("old", "new", "line", "field", "said"),
    [
        ("[swarm]", "[swarms]", 2, "workflows.0", "did you mean 'swarm'?"),
        ("  exits: {working: [waiting]}\n", "", 6, "remove.states", "'working' exits to it"),
        ("{working: [waiting]}", "{working: [resting]}", 6, "remove.exits.working", "no exit"),
        ("states: [waiting]", "states: [resting]", 7, "remove.states", "no 'resting' among"),
        ("  working: {prompts", "  wroking: {prompts", 4, "states.wroking", "no state 'wroking'"),
        ("Be strict.", "'{{ strict }}'", 4, "states.working.prompts.enter", "'strict'"),
        ("remove:", "removed:", 5, "removed", "did you mean 'remove'?"),
        ("states: [waiting]", "states: [pending]", 7, "remove.states", "initial_state"),
    ],
)
def test_an_overlay_that_does_not_fit(  # noqa: PLR0917 - what pytest gives it
    tmp_path: Path, old: str, new: str, line: int, field: str, said: str
) -> None:
    """An overlay that says what it is for is tried on it as it is loaded."""
    folder = tmp_path / "overlays"
    folder.mkdir()
    path = folder / "strict.yaml"
    path.write_text(OVERLAY)
    assert "strict" in load_workflows("swarm", tmp_path).overlays
    assert old in OVERLAY
    path.write_text(OVERLAY.replace(old, new, 1))
    with pytest.raises(WorkflowFileError) as caught:
        load_workflows("swarm", tmp_path)
    assert str(caught.value).startswith(f"{path}:{line}: {field}: "), str(caught.value)
    assert said in caught.value.problem


def test_an_overlay_is_read_by_itself(tmp_path: Path) -> None:
    """What an overlay is for, adds and removes stands in its file."""
    path = tmp_path / "strict.yaml"
    path.write_text(OVERLAY)
    overlay = read_overlay(path)
    assert (overlay.name, overlay.workflows) == ("strict", ("swarm",))
    assert overlay.removed.states == ("waiting",)
    assert overlay.removed.exits == {"working": ("waiting",)}
