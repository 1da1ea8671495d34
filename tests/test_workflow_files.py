"""Workflow files: what a good one means, and what is said of each kind of wrong one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from taskloom_server.graph.workflows import Parents, State, Unknown
from taskloom_server.workflow_files import (
    SHIPPED,
    WorkflowFileError,
    load_workflows,
    read_workflow,
)

GOOD = """\
name: review
description: >
  Work is done by one
  and looked at by another.
states:
  todo:   {exits: [doing, dropped]}
  doing:  {exits: [todo, checked, broken], timed: true}
  checked: {exits: [todo], terminal: true}
  broken: {exits: [todo], terminal: true}
  dropped: {exits: []}
phases: [draft, final]
settings:
  initial_state: todo
  assign_state: doing
  claim_state: doing
  complete_state: checked
  fail_state: broken
  cancel_state: dropped
  disconnect_state: todo
  blocking_states: [todo, doing]
  parents: claim
  unknown_phase: allow
"""
STATE_SETTINGS = [
    f"{name}_state"
    for name in ("initial", "assign", "claim", "complete", "fail", "cancel", "disconnect")
]

SHIPPED_NAMES = {path.stem for path in SHIPPED.glob("*.yaml")}

Document = dict[str, Any]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the workflow file of a test lies."""
    return tmp_path / "review.yaml"


def refused(path: Path, contents: str | bytes) -> str:
    """What is said of a file with these contents, without its name and line."""
    if isinstance(contents, bytes):
        path.write_bytes(contents)
    else:
        path.write_text(contents)
    with pytest.raises(WorkflowFileError) as caught:
        read_workflow(path)
    said = str(caught.value)
    assert said.startswith(f"{path}:{caught.value.line}: ")
    assert "\n" not in said, "it is one sentence"
    return said.removeprefix(f"{path}:{caught.value.line}: ")


def changed(change: Callable[[Document], object]) -> str:
    """The good file with a change."""
    document: Document = yaml.safe_load(GOOD)
    change(document)
    return yaml.safe_dump(document)


def test_a_good_file_is_read_whole(path: Path) -> None:
    """Everything that stands in a file is in its workflow; text is put into one line."""
    path.write_text(GOOD)
    workflow = read_workflow(path)
    assert workflow.name == "review"
    assert workflow.description == "Work is done by one and looked at by another."
    assert dict(workflow.states) == {
        "todo": State("todo", ("doing", "dropped")),
        "doing": State("doing", ("todo", "checked", "broken"), timed=True),
        "checked": State("checked", ("todo",), terminal=True),
        "broken": State("broken", ("todo",), terminal=True),
        "dropped": State("dropped", (), terminal=True),
    }
    assert tuple(workflow.phases) == ("draft", "final")
    assert [getattr(workflow, name) for name in STATE_SETTINGS] == [
        *["todo", "doing", "doing", "checked", "broken", "dropped", "todo"]
    ]
    assert workflow.blocking_states == {"todo", "doing"}
    assert workflow.parents is Parents.CLAIM
    assert workflow.unknown_phase is Unknown.ALLOW


def test_a_state_without_exits_is_an_end(path: Path) -> None:
    """A state that leads nowhere is terminal, whether the file says so or not."""
    path.write_text(GOOD)
    assert read_workflow(path).states["dropped"].terminal


def test_a_state_may_be_parked(path: Path) -> None:
    """A state in which a task waits for something outside says so; others are not parked."""
    asking = {"exits": ["doing"], "parked": True}
    path.write_text(changed(lambda document: document["states"].update(asking=asking)))
    states = read_workflow(path).states
    assert {name for name, state in states.items() if state.parked} == {"asking"}


def test_what_may_be_left_out(path: Path) -> None:
    """Description, phases and two settings have defaults: parents roll up, phases are checked."""

    def strip(document: Document) -> None:
        del document["description"], document["phases"]
        del document["settings"]["parents"], document["settings"]["unknown_phase"]

    path.write_text(changed(strip))
    workflow = read_workflow(path)
    assert (workflow.description, workflow.phases) == ("", {})
    assert workflow.parents is Parents.ROLLUP
    assert workflow.unknown_phase is Unknown.REJECT


def test_the_shipped_workflow_is_swarm() -> None:
    """The server comes with `swarm`, in which a failed blocker blocks and a cancelled one frees."""
    workflow = load_workflows("swarm").get("")
    assert workflow.name == "swarm"
    assert workflow.blocks("failed")
    assert not workflow.blocks("cancelled")
    assert not workflow.blocks("completed")
    assert workflow.parents is Parents.ROLLUP
    for each in SHIPPED.glob("*.yaml"):
        assert read_workflow(each).name == each.stem


# Files that are no workflows


def test_a_file_that_is_not_there(path: Path) -> None:
    """A file that cannot be opened is named, with the reason."""
    with pytest.raises(WorkflowFileError, match="No such file"):
        read_workflow(path)


def test_a_file_that_is_not_text(path: Path) -> None:
    """Bytes that are not UTF-8 are told as such."""
    assert "utf-8" in refused(path, b"name: \xff\xfe")


@pytest.mark.parametrize("contents", ["name: [", "a: b: c", "\tname: x", "name: 'x", "\x00"])
def test_a_file_that_is_not_yaml(path: Path, contents: str) -> None:
    """What YAML cannot read is told with the line, which is the first one here."""
    refused(path, "# no YAML follows\n" + contents)
    with pytest.raises(WorkflowFileError, match=r"review\.yaml:[23]: .*YAML"):
        read_workflow(path)


@pytest.mark.parametrize("contents", ["", "# nothing\n", "- a\n- b\n", "review", "7"])
def test_a_file_that_is_no_mapping(path: Path, contents: str) -> None:
    """A file without keys is no workflow."""
    assert "mapping" in refused(path, contents)


# Files with a wrong place in them

WRONG: list[tuple[str, Callable[[Document], object], str]] = [
    ("name", lambda d: d.pop("name"), "required"),
    ("name", lambda d: d.update(name=7), "string"),
    ("name", lambda d: d.update(name=["a"]), "string"),
    ("description", lambda d: d.update(description={}), "string"),
    ("states", lambda d: d.pop("states"), "required"),
    ("states", lambda d: d.update(states=["todo"]), "mapping"),
    ("states.todo", lambda d: d["states"].update(todo=None), "mapping"),
    ("states.todo.exits", lambda d: d["states"].update(todo={}), "required"),
    ("states.todo.exits", lambda d: d["states"]["todo"].update(exits="doing"), "list"),
    ("states.todo.exits", lambda d: d["states"]["todo"].update(exits=["nowhere"]), "'nowhere'"),
    ("states.todo.exits.0", lambda d: d["states"]["todo"].update(exits=[1]), "string"),
    ("states.todo.timed", lambda d: d["states"]["todo"].update(timed="yes, please"), "boolean"),
    ("states.todo.terminal", lambda d: d["states"]["todo"].update(terminal=1), "boolean"),
    ("states.todo.parked", lambda d: d["states"]["todo"].update(parked="no"), "boolean"),
    ("states.checked.parked", lambda d: d["states"]["checked"].update(parked=True), "has ended"),
    ("states.dropped.parked", lambda d: d["states"]["dropped"].update(parked=True), "has ended"),
    ("settings.initial_state", lambda d: d["states"]["todo"].update(parked=True), "is parked"),
    ("settings.assign_state", lambda d: d["states"]["doing"].update(parked=True), "is parked"),
    ("states.todo.color", lambda d: d["states"]["todo"].update(color="red"), "is no key here"),
    ("phases", lambda d: d.update(phases="draft"), "list"),
    ("phases.1", lambda d: d.update(phases=["draft", 2]), "string"),
    ("settings", lambda d: d.pop("settings"), "required"),
    ("settings", lambda d: d.update(settings=[]), "mapping"),
    ("settings.parent", lambda d: d["settings"].update(parent="claim"), "is no key here"),
    ("settings.parents", lambda d: d["settings"].update(parents="ignore"), "rollup"),
    ("settings.unknown_phase", lambda d: d["settings"].update(unknown_phase="ask"), "allow"),
    ("settings.blocking_states", lambda d: d["settings"].pop("blocking_states"), "required"),
    (
        "settings.blocking_states",
        lambda d: d["settings"].update(blocking_states=["todo", "nowhere"]),
        "'nowhere'",
    ),
    ("gates", lambda d: d.update(gates=[]), "mapping"),
    ("gate", lambda d: d.update(gate={}), "did you mean 'gates'?"),
]


@pytest.mark.parametrize(("place", "change", "problem"), WRONG)
def test_a_wrong_place_is_named(
    path: Path, place: str, change: Callable[[Document], object], problem: str
) -> None:
    """What is missing, unknown or of the wrong kind is named by its way through the file."""
    said = refused(path, changed(change))
    assert place in said
    assert problem in said


@pytest.mark.parametrize("setting", STATE_SETTINGS)
def test_settings_name_states(path: Path, setting: str) -> None:
    """Each setting of a state must be there, and name a state that there is."""
    assert setting in refused(path, changed(lambda d: d["settings"].pop(setting)))
    said = refused(path, changed(lambda d: d["settings"].update({setting: "nowhere"})))
    assert f"settings.{setting}: there is no state 'nowhere'; there are" in said


def test_a_state_whose_name_yaml_takes_for_something_else(path: Path) -> None:
    """Names that YAML reads as true, or as a number, are told to be no strings."""
    for name in ("on", "1"):
        said = refused(path, GOOD.replace("dropped", name))
        assert "string" in said


def test_lost_tasks_come_back_to_the_beginning(path: Path) -> None:
    """Where a task goes whose worker is gone, there is a way to the initial state."""

    def lose(document: Document) -> None:
        document["settings"]["disconnect_state"] = "dropped"

    assert "settings.disconnect_state" in refused(path, changed(lose))
    path.write_text(changed(lambda d: d["settings"].update(disconnect_state="broken")))
    assert read_workflow(path).disconnect_state == "broken"


# Folders


def test_a_folder_adds_its_workflows(path: Path) -> None:
    """The *.yaml files of a folder stand beside the shipped ones; other files are passed over."""
    path.write_text(GOOD)
    (path.parent / "notes.txt").write_text("no workflow")
    workflows = load_workflows("review", path.parent)
    assert sorted(set(workflows.by_name) - SHIPPED_NAMES) == ["review"]
    assert workflows.get("").name == "review"
    shipped = load_workflows("swarm").open_statuses
    assert set(workflows.open_statuses) == {"todo", "doing", *shipped}


def test_a_folder_may_change_a_shipped_workflow(path: Path) -> None:
    """A file that takes the name of a shipped workflow takes its place."""
    path.write_text(GOOD.replace("name: review", "name: swarm"))
    assert load_workflows("swarm", path.parent).get("swarm").initial_state == "todo"


def test_one_wrong_file_is_enough(path: Path) -> None:
    """A folder with a wrong file is refused, and the file named with the line."""
    path.write_text(GOOD)
    wrong = path.parent / "wrong.yaml"
    wrong.write_text("name: wrong")
    with pytest.raises(WorkflowFileError, match=r"wrong\.yaml:1: states"):
        load_workflows("review", path.parent)


def test_a_folder_that_is_none(path: Path) -> None:
    """A folder that is not there, or is a file, is named."""
    path.write_text(GOOD)
    for place in (path, path.parent / "nowhere"):
        with pytest.raises(WorkflowFileError, match=str(place)):
            load_workflows("swarm", place)


def test_the_default_must_be_there(path: Path) -> None:
    """A default that is no workflow is named, beside those that there are."""
    path.write_text(GOOD)
    with pytest.raises(WorkflowFileError, match=r"'nothing'.*review, .*swarm"):
        load_workflows("nothing", path.parent)
