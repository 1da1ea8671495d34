"""Before a fleet is started: are the workflows there, and can the queries be answered?"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from taskloom_experiments.definition import DefinitionError, load_definition, plain_definition
from taskloom_experiments.preflight import check, check_tags
from taskloom_experiments.templates import read_template

DEFINITION = """
experiment: {name: small}
workflow: swarm
template: graph.json
runs:
  - {name: one, agents: 1}
  - {name: two, agents: 2, agent_config: {workflow: swarm}}
metrics:
  first:
    measurements:
      - {name: tasks_per_hour}
  second:
    measurements:
      - {name: gini_coefficient}
      - {name: slowest, query: SELECT MAX(time_actual_ms) FROM tasks}
"""
QUERY = "SELECT MAX(time_actual_ms) FROM tasks"


@pytest.fixture
def refusal(tmp_path: Path) -> Callable[[str], str]:
    """Check a definition; the sentence that refuses it, less its file's name."""
    (tmp_path / "graph.json").write_text("{}", encoding="utf-8")
    file = tmp_path / "small.yaml"

    def told(text: str) -> str:
        file.write_text(text, encoding="utf-8")
        definition = load_definition(file)
        with pytest.raises(DefinitionError) as raised:
            check(definition)
        assert str(raised.value).startswith(f"{file}: ")
        return str(raised.value).removeprefix(f"{file}: ")

    return told


@pytest.fixture
def passes(tmp_path: Path) -> Callable[[str], None]:
    """Check a definition that is in order."""
    (tmp_path / "graph.json").write_text("{}", encoding="utf-8")
    file = tmp_path / "small.yaml"

    def checked(text: str) -> None:
        file.write_text(text, encoding="utf-8")
        check(load_definition(file))

    return checked


def test_good_definition_passes(passes: Callable[[str], None]) -> None:
    """Known workflows, and queries on tables that are there."""
    passes(DEFINITION)


def test_reference_definition_passes(reference_definition: Path) -> None:
    """Its queries fit the tables of this taskloom as they stand."""
    check(load_definition(reference_definition))


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (
            "\nworkflow: swarm",
            "\nworkflow: swarn",
            "workflow: there is no workflow 'swarn'; there are hier",
        ),
        (
            "{workflow: swarm}",
            "{workflow: shove}",
            "runs[1].agent_config.workflow: there is no workflow 'shove'",
        ),
        (
            QUERY,
            "SELECT nobody FROM tasks",
            "metrics.second.measurements[1].query: slowest cannot be measured: no such column: nob",
        ),
        (QUERY, "SELECT 1 FROM nowhere", "no such table: nowhere"),
        (QUERY, "SELEC 1", 'near "SELEC": syntax error'),
        (QUERY, "-- nothing", "incomplete input"),
        (QUERY, "DROP TABLE tasks", "it does more than read this database"),
        (QUERY, "UPDATE tasks SET points = 1 RETURNING id", "it does more than read"),
        (QUERY, "VACUUM INTO 'copy.db'", "it does more than read this database"),
        (QUERY, "SELECT 1; SELECT 2", "it holds more than one statement"),
    ],
)
def test_what_cannot_be_answered_is_refused(
    refusal: Callable[[str], str], old: str, new: str, sentence: str
) -> None:
    """The refusal names file, field and what is wrong."""
    assert old in DEFINITION
    assert sentence in refusal(DEFINITION.replace(old, f'"{new}"' if old is QUERY else new, 1))


@pytest.mark.parametrize(
    "query",
    [
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n",
        "EXPLAIN QUERY PLAN SELECT id FROM tasks",
    ],
    ids=["endless", "explains itself"],
)
def test_query_is_not_run(passes: Callable[[str], None], query: str) -> None:
    """A query is prepared and no more: how long it takes is nothing to refuse it for."""
    passes(DEFINITION.replace(QUERY, f'"{query}"'))


def test_workflows_of_the_environment_are_known(
    refusal: Callable[[str], str],
    passes: Callable[[str], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the server would find, the check finds, too; and what keeps it from starting."""
    folder = tmp_path / "workflows"
    folder.mkdir()
    shipped = Path(__file__).parents[2] / "server/taskloom_server/workflows/swarm.yaml"
    own = shipped.read_text(encoding="utf-8").replace("name: swarm", "name: bees", 1)
    (folder / "bees.yaml").write_text(own, encoding="utf-8")
    text = DEFINITION.replace("{workflow: swarm}", "{workflow: bees}")
    assert "there is no workflow 'bees'" in refusal(text)
    monkeypatch.setenv("TASKLOOM_WORKFLOW_DIR", str(folder))
    passes(text)


def test_workflow_of_the_command_line_is_checked(tmp_path: Path) -> None:
    """Without a file it is the option that is named."""
    template = tmp_path / "graph.json"
    template.touch()
    with pytest.raises(DefinitionError, match="--workflow: there is no workflow 'shove'"):
        check(plain_definition(template, "shove", 1))


def test_settings_that_no_server_starts_with_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What keeps a server from starting is told in the server's words."""
    template = tmp_path / "graph.json"
    template.touch()
    monkeypatch.setenv("TASKLOOM_WORKFLOW_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(DefinitionError, match=r"no server can be started: .*nowhere: is not a"):
        check(plain_definition(template, "swarm", 1))


def test_tags_that_no_agent_has_are_told(tmp_path: Path) -> None:
    """A run that could never end for want of skills is refused, with the task and the tags."""
    template = tmp_path / "graph.json"
    tasks = [
        {"id": "all", "needed_tags": ["boss"]},
        {"id": "old", "needed_tags": ["cobol"], "completed_at": 1},
        {"id": "paint", "needed_tags": ["code"], "wanted_tags": ["ui", "art"]},
        {"id": "ship", "needed_tags": ["code", "keys"]},
    ]
    contains = {"from_task_id": "all", "to_task_id": "ship", "dep_type": "contains"}
    tables = {"tasks": tasks, "dependencies": [contains]}
    template.write_text(json.dumps({"tables": tables}), encoding="utf-8")
    graph = read_template(template)
    file = tmp_path / "small.yaml"

    def refused(agents: str, only: tuple[str, ...] = ()) -> str:
        runs = f"runs:\n  - {{name: fine, {agents}}}\n"
        file.write_text(
            f"experiment: {{name: small}}\nworkflow: swarm\ntemplate: graph.json\n{runs}",
            encoding="utf-8",
        )
        try:
            check_tags(load_definition(file), graph, only)
        except DefinitionError as error:
            return str(error).removeprefix(f"{file}: ")
        return ""

    assert refused("agents: 1, agent_config: {tags: [code, ui]}") == (
        "runs[0].agent_config.tags: no agent of fine may take task 'ship' of graph.json; give one "
        "the tags that it needs, keys"
    )
    assert refused("groups: [{name: a, tags: [code]}, {name: b, tags: [ui]}]") == (
        "runs[0].groups: no agent of fine may take task 'paint' of graph.json; give one a "
        "tag that it wants: art, ui"
    )
    assert refused("groups: [{name: a, tags: [code, keys]}, {name: b, tags: [code, art]}]") == ""
    assert refused("agents: 1, agent_config: {tags: [code]}", only=("another",)) == ""
