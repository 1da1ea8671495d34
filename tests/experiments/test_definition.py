"""Definitions: what loads, and the one sentence that a bad one gets."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import get_args

import pytest
from taskloom_experiments.definition import (
    Definition,
    DefinitionError,
    load_definition,
    plain_definition,
)
from taskloom_experiments.definition_parts import ChartKind

GOOD = """
experiment: {name: small, version: 1.0}
workflow: swarm
template: graph.json
runs:
  - {name: one, agents: 1, agent_config: {tags: [worker], max_claims: 1}}
  - {name: two, agents: 2}
metrics:
  contention:
    description: of claims
    measurements:
      - {name: claim_success_rate, target: "> 90%", derivation: granted / tried}
      - {name: slowest, query: SELECT MAX(time_actual_ms) FROM tasks}
success_criteria:
  - {name: done, condition: pending_count == 0, required: true}
analysis:
  expected_outcomes: [anything]
  key_charts:
    - {title: Claim Contention Rate, type: bar, x: agent_count, y: failed_claim_pct}
execution: {as: you like}
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    """Write a definition beside its template."""
    (tmp_path / "graph.json").write_text("{}", encoding="utf-8")

    def to_file(text: str) -> Path:
        file = tmp_path / "small.yaml"
        file.write_text(dedent(text), encoding="utf-8")
        return file

    return to_file


def refusal(file: Path) -> str:
    """The sentence that refuses a definition, less the file's name."""
    with pytest.raises(DefinitionError) as raised:
        load_definition(file)
    text = str(raised.value)
    assert "\n" not in text
    assert str(file) in text
    return text.removeprefix(f"{file}: ")


def test_reference_definition_loads_as_it_stands(reference_definition: Path) -> None:
    """The reference file is valid input: its runs, template, measurements, criteria and charts."""
    definition = load_definition(reference_definition)
    assert definition.name == "pure-pull"
    assert [(run.name, run.agents) for run in definition.runs] == [
        ("pull-1", 1),
        ("pull-2", 2),
        ("pull-4", 4),
        ("pull-8", 8),
    ]
    assert definition.runs[0].agent_config.tags == ("worker", "implementer", "code")
    assert definition.template is not None
    assert definition.template.name == "browser-parallel.json"
    assert len(definition.measurements) == 14
    assert [one.name for one in definition.success_criteria if one.required] == [
        "all_tasks_complete",
        "acceptable_contention",
    ]
    assert definition.charts == ("throughput", "timeline", "completion", "contention")
    assert definition.warnings == ()


def test_definition_tells_what_is_used(write: Callable[[str], Path]) -> None:
    """Runs, measurements with their group, criteria and charts come out as written."""
    definition = load_definition(write(GOOD))
    assert [(run.name, run.agents, run.agent_config.tags) for run in definition.runs] == [
        ("one", 1, ("worker",)),
        ("two", 2, ()),
    ]
    assert [(one.name, one.group) for one in definition.measurements] == [
        ("claim_success_rate", "contention"),
        ("slowest", "contention"),
    ]
    assert definition.charts == ("contention",)
    assert definition.source is not None


def test_template_is_found_above_the_definition_and_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A template is looked for beside the definition, then upwards, then where one stands."""
    deep = tmp_path / "project/experiments/definitions"
    deep.mkdir(parents=True)
    here = tmp_path / "elsewhere"
    here.mkdir()
    (tmp_path / "project/graph.json").write_text("{}", encoding="utf-8")
    (here / "local.json").write_text("{}", encoding="utf-8")
    monkeypatch.chdir(here)
    file = deep / "small.yaml"
    file.write_text(GOOD, encoding="utf-8")
    assert load_definition(file).template == (tmp_path / "project/graph.json").resolve()
    file.write_text(GOOD.replace("graph.json", "local.json"), encoding="utf-8")
    assert load_definition(file).template == (here / "local.json").resolve()


def test_charts_are_all_where_none_are_named(write: Callable[[str], Path]) -> None:
    """A definition without key_charts gets every chart; one with an empty list gets none."""
    charts = GOOD[GOOD.index("  key_charts:") : GOOD.index("execution:")]
    assert load_definition(write(GOOD.replace(charts, ""))).charts == get_args(ChartKind)
    assert load_definition(write(GOOD.replace(charts, "  key_charts: []\n"))).charts == ()


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("agents: 2", "agents: 0", "runs[1].agents: is 0; write 1 or more"),
        ("agents: 2", "agents: two", "runs[1].agents: input should be a valid integer; it is"),
        ("name: two, ", "", "runs[1].name: is missing; add it"),
        ("name: two", "name: ONE", "runs: 'one' stands twice; rename one of them"),
        ("name: two", "name: ../two", "runs[1].name: '../two' cannot be a folder's name"),
        ("name: two, agents: 2", "name: two, agent: 2", "runs[1].agents: is missing"),
        ("max_claims: 1", "max_claims: 0", "runs[0].agent_config.max_claims: is 0; write 1"),
        ("max_claims: 1", "claims: 1", "runs[0].agent_config.claims: is not known here"),
        ("workflow: swarm", "", "workflow: is missing; add it"),
        ("template: graph.json", "template: [a]", "template: input should be a valid string"),
        ("template: graph.json", "template: none.json", "template: there is no none.json in"),
        ("title: Claim Contention Rate", "title: Pie", "there is no chart 'Pie' of type 'bar'"),
        ("type: bar", "type: pie", "there is no chart 'Claim Contention Rate' of type 'pie'"),
        ("y: failed_claim_pct", "y: cost", "draws failed_claim_pct on y; write y: failed_claim"),
        (
            "Claim Contention Rate, type: bar, x: agent_count, y: fail",
            "Costs of Pulling, type: bar, x: agent_count, y: fail",
            "'Costs of Pulling' draws several on y; leave it out",
        ),
        ("name: slowest, query", "name: slowest, sql", "metrics.contention.measurements[1].sql"),
        ("slowest, query: SELECT MAX(time_actual_ms) FROM tasks", "slow", "give it a query or a"),
        ("name: slowest", "name: claim_success_rate", "metrics: 'claim_success_rate' stands twice"),
        ("pending_count == 0", "open('x') == 0", "calls a function"),
        ("pending_count == 0", "pending_count = 0", "uses '='; to compare, write '=='"),
        ("pending_count == 0", "pending_count ==", "does not parse"),
        ("pending_count == 0", "a.b == 0", "holds something else than figures"),
        ("success_criteria:", "success_criterion:", "did you mean 'success_criteria'?"),
        ("derivation: granted / tried", "derivation: gini_coeff", "no figure is called 'gini_coe"),
        ("derivation: granted / tried", "derivation: gini_coef", "mean 'gini_coefficient'?"),
        ("derivation: granted / tried", "derivation: charm", "write the formula in words"),
        (
            "workflow: swarm",
            "workflow: swarm\nworkflow: push",
            "line 4: is not valid YAML: the key",
        ),
        ("workflow: swarm", "workflow: [swarm", "is not valid YAML"),
    ],
)
def test_bad_definition_is_refused_with_a_sentence(
    write: Callable[[str], Path], old: str, new: str, sentence: str
) -> None:
    """The refusal names file and field and says what to do."""
    assert old in GOOD
    assert sentence in refusal(write(GOOD.replace(old, new)))


def test_several_mistakes_are_counted(write: Callable[[str], Path]) -> None:
    """The first mistake is told, and how many more there are."""
    text = refusal(write(GOOD.replace("agents: 2", "agents: 0").replace("workflow: swarm", "")))
    assert text.endswith("(and 1 more)")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty; begin with 'experiment:'"),
        (b"- a\n- b\n", "holds no fields; begin with"),
        (b"\xff\xfe\x00", "is not text; save it as YAML in UTF-8"),
        (b"a: \x01", "is not text"),
        (b"[" * 5000, "is nested too deeply"),
        (b"1: 2\n", "experiment: is missing; add it"),
        (b"? [a]\n: b\n", "found unhashable key"),
        (b"a: !!python/object:os.system {}", "could not determine a constructor"),
    ],
)
def test_file_that_is_no_definition(tmp_path: Path, content: bytes, sentence: str) -> None:
    """Whatever the file holds, the answer is one sentence."""
    file = tmp_path / "small.yaml"
    file.write_bytes(content)
    assert sentence in refusal(file)


def test_absent_file_and_folder(tmp_path: Path) -> None:
    """A file that is not there, or is a folder, is told as such."""
    assert "No such file" in refusal(tmp_path / "none.yaml")
    assert "Is a directory" in refusal(tmp_path)


def test_derivation_of_one_word_names_the_figure(write: Callable[[str], Path]) -> None:
    """A measurement of any name is the figure that its derivation names; formulas name none."""
    text = GOOD.replace(
        "slowest, query: SELECT MAX(time_actual_ms) FROM tasks", "mine, derivation: gini"
    )
    definition = load_definition(write(text))
    first, second = (measurement.metric for measurement in definition.measurements)
    assert first is not None
    assert first.name == "claim_success_rate"
    assert second is not None
    assert second.name == "gini_coefficient"
    assert definition.warnings == ()


def test_unknown_derivation_and_figure_are_warned_of(write: Callable[[str], Path]) -> None:
    """What loads but will have no result is said at load."""
    text = GOOD.replace(
        "slowest, query: SELECT MAX(time_actual_ms) FROM tasks", "overhead, derivation: a / b"
    ).replace("pending_count == 0", "merge_conflicts == 0")
    first, second = load_definition(write(text)).warnings
    assert "knows no derivation named overhead" in first
    assert "names merge_conflicts" in second


def test_plain_command_line_makes_a_definition(tmp_path: Path) -> None:
    """--template, --workflow and --agents give one run that measures everything."""
    template = tmp_path / "browser.json.gz"
    template.write_bytes(b"")
    definition = plain_definition(template, "swarm", 4)
    assert (definition.name, definition.workflow) == ("browser", "swarm")
    assert [(run.name, run.agents) for run in definition.runs] == [("pull-4", 4)]
    assert definition.charts == get_args(ChartKind)
    assert [one.required for one in definition.success_criteria] == [True]


def test_plain_command_line_is_checked(tmp_path: Path) -> None:
    """No agents, too many of them and no template are refused like in a file."""
    with pytest.raises(DefinitionError, match="--agents is 0; give the run one agent or more"):
        plain_definition(tmp_path, "swarm", 0)
    with pytest.raises(DefinitionError, match="100000000; give the run 10000 agents at most"):
        plain_definition(tmp_path, "swarm", 100_000_000)
    with pytest.raises(DefinitionError, match="there is no such file"):
        plain_definition(tmp_path / "none.json", "swarm", 1)


def test_reading_a_definition_needs_no_matplotlib() -> None:
    """Loading a definition does not import what only drawing needs."""
    check = "import sys, taskloom_experiments.compare; print('matplotlib' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, check=True, env=_paths()
    )
    assert done.stdout.strip() == "False"


def _paths() -> dict[str, str]:
    return {"PYTHONPATH": ":".join(sys.path)}


def test_definition_is_a_value(write: Callable[[str], Path]) -> None:
    """The same file gives an equal definition."""
    file = write(GOOD)
    assert isinstance(load_definition(file), Definition)
    assert load_definition(file) == load_definition(file)
