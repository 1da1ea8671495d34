"""Prompts: what a template may say, and what is said of one that says something else."""

from pathlib import Path

import pytest
from taskloom_server.graph.prompts import VARIABLES
from taskloom_server.prompts import _SAMPLES, PromptError, compile_prompt
from taskloom_server.workflow_files import SHIPPED, WorkflowFileError, read_workflow

FULL, SPARSE = _SAMPLES


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("{{current_status}} in {{ current_phase }}", "working in implement"),
        ("next: {{ valid_exits }}", "next: completed, failed"),
        ("{{ valid_phases | join('/') }}", "implement/review"),
        ("{{ task.id }}: {{ task['title'] | upper }}", "parser: WRITE THE PARSER"),
        ("{% if task.attempts %}again {{ worker.id }}{% endif %}", "again brisk-otter-41"),
        ("{% for exit in valid_exits %}[{{ exit }}]{% endfor %}", "[completed][failed]"),
        ("{% set n = task.points * 2 %}{{ n }} by {{ workflow.name }}", "6 by swarm"),
        ("  \nno variables\n\n", "no variables"),
        ("<b> & {{ '<' }}", "<b> & <"),
    ],
)
def test_variables_are_filled_in(text: str, full: str) -> None:
    """A prompt takes variables, their fields, filters, conditions and loops; nothing is escaped."""
    prompt = compile_prompt(text)
    assert prompt.text == text
    assert prompt.render(FULL) == full


def test_what_is_absent_is_empty() -> None:
    """Every variable is there, also where it is empty."""
    assert compile_prompt("[{{ task.parent_id }}{{ worker.tags }}]").render(SPARSE) == "[]"
    for sample in _SAMPLES:
        assert sample.keys() == VARIABLES.keys()
        for name, fields in VARIABLES.items():
            value = sample[name]
            assert not fields or (isinstance(value, dict) and tuple(value) == fields)


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("one\n{{ curent_status }}", 2, "did you mean 'current_status'?"),
        ("{{ agent }}", 1, "which is no variable; there are current_status"),
        ("\n\n{{ task.titel }}", 3, "did you mean 'task.title'?"),
        ("{{ task['owner'] }}", 1, "'task.owner', which is no variable"),
        ("{% if x %}{% endif %}", 1, "'x'"),
        ("a\n{{ task.id", 2, "not a template"),
        ("{% for x in valid_exits %}", 1, "not a template"),
        ("{{ task.id | nothing }}", 1, "'nothing', which is no filter"),
        ("{% include 'other' %}", 1, "another template"),
        ("{{ range(10) }}", 1, "'range'"),
        ("{{ lipsum() }}", 1, "'lipsum'"),
        ("{{ 1 // task.points }}", 1, "cannot be filled in"),
        ("\n{{ 1 // task.points }}", 2, "cannot be filled in: integer division"),
        ("{{ task.id.nothing }}", 1, "'task.id.nothing', but task.id has no fields"),
        ("{{ task.__class__.__mro__ }}", 1, "'task.__class__'"),
        ("{{ ''.__class__.__mro__ }}", 1, "'__class__' of '', which has no fields"),
        ("{{ valid_exits.append('x') }}", 1, "calls something"),
        ("a\n{% if task.points > 99 %}{{ task.title.nope }}{% endif %}", 2, "'task.title.nope'"),
        ("{% if task.points > 99 %}{{ task['title']['no'] }}{% endif %}", 1, "'task.title.no'"),
        ("{% if task.points > 99 %}{{ valid_exits.x }}{% endif %}", 1, "valid_exits has no fields"),
        ("{% if task.points > 99 %}{{ task.id | lowr }}{% endif %}", 1, "mean 'lower'?"),
        ("{% if task.points > 99 and task.id is evn %}{% endif %}", 1, "mean 'even'?"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", 1, "which a prompt cannot"),
        ("{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}", 1, "which a prompt cannot"),
        ("{% set x %}{{ task }}{% endset %}", 1, "sets a variable to a block"),
    ],
)
def test_what_no_prompt_may_say(text: str, line: int, problem: str) -> None:
    """Unknown variables, broken templates and ways out of the sandbox are refused with the line."""
    with pytest.raises(PromptError) as caught:
        compile_prompt(text)
    assert problem in str(caught.value)
    assert caught.value.line == line


@pytest.mark.parametrize(
    "text",
    [
        "{{ 'x' * 100000000 }}",
        "{{ 100000000 * ['x'] }}",
        "{{ 9 ** 99999999 }}",
        "{{ 'x' | center(100000000) }}",
        "{{ 'x' | indent(100000000, true) }}",
        "{{ ('x' * 1000) | replace('x', 'x' * 10000) }}",
        "{{ ('x' * 1000) | list | join('x' * 10000) }}",
        "{{ [8] | map('center', 100000000) | list }}",
        "{{ 1 | round(100000000, 'floor') }}",
        "{{ '%100000000d' % 1 }}",
        "{% set x = 'xx' %}" + "{% set x = x ~ x %}" * 40,
        "{% set x = 'xx' %}" + "{% set x = [x, x] %}" * 40 + "{{ x }}",
        "{% set x = '&' %}" + "{% set x = x | escape | string | replace('&', '&&') %}" * 40,
        "{% for a in 'x' * 1000 %}" * 3 + "{% endfor %}" * 3,
        "{% for a in 'x' * 1000 %}" * 2 + "{{ 'xxxxxxxxx' * 9 }}" + "{% endfor %}" * 2,
        "x" * 70_000,
        "{{ " + "(" * 5_000 + "1" + ")" * 5_000 + " }}",
    ],
    ids=range(17),
)
def test_no_prompt_is_without_bound(text: str) -> None:
    """What would make a huge text or number, or run for ever, is refused at once."""
    with pytest.raises(PromptError):
        compile_prompt(text)


def test_a_workflow_of_bounded_prompts_only_is_read(tmp_path: Path) -> None:
    """A prompt without bound is refused with the file, the line and the field."""
    text = (SHIPPED / "swarm.yaml").read_text(encoding="utf-8")
    file = tmp_path / "big.yaml"
    said = "{{ 'x' * 100000000 }}"
    file.write_text(f'{text}\ncombinations:\n  working+implement: "{said}"\n', encoding="utf-8")
    line = len(text.splitlines()) + 3
    with pytest.raises(WorkflowFileError) as caught:
        read_workflow(file)
    assert str(caught.value) == (
        f"{file}:{line}: combinations.working+implement: cannot be filled in: "
        "makes a value of more than 1,048,576 characters"
    )


def test_a_prompt_that_fails_says_so() -> None:
    """What only fails for certain values is raised: whoever gives prompts out leaves it out."""
    prompt = compile_prompt("{{ 6 // (task.priority - 7) }}")
    odd = dict(FULL, task={"priority": 7})
    with pytest.raises(ZeroDivisionError):
        prompt.render(odd)
