"""Prompts: what a template may say, and what is said of one that says something else."""

import pytest
from taskloom_server.graph.prompts import VARIABLES
from taskloom_server.prompts import _SAMPLES, PromptError, compile_prompt

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
        ("{{ task.id | nothing }}", 1, "nothing"),
        ("{% include 'other' %}", 1, "another template"),
        ("{{ range(10) }}", 1, "'range'"),
        ("{{ lipsum() }}", 1, "'lipsum'"),
        ("{{ 1 // task.points }}", 1, "cannot be filled in"),
        ("{{ task.id.nothing }}", 1, "cannot be filled in"),
        ("{{ task.__class__.__mro__ }}", 1, "'task.__class__'"),
        ("{{ ''.__class__.__mro__ }}", 1, "cannot be filled in"),
        ("{{ valid_exits.append('x') }}", 1, "cannot be filled in"),
    ],
)
def test_what_no_prompt_may_say(text: str, line: int, problem: str) -> None:
    """Unknown variables, broken templates and ways out of the sandbox are refused with the line."""
    with pytest.raises(PromptError) as caught:
        compile_prompt(text)
    assert problem in str(caught.value)
    assert caught.value.line == line


def test_a_prompt_that_fails_says_so() -> None:
    """What only fails for certain values is raised: whoever gives prompts out leaves it out."""
    prompt = compile_prompt("{{ 6 // (task.priority - 7) }}")
    odd = dict(FULL, task={"priority": 7})
    with pytest.raises(ZeroDivisionError):
        prompt.render(odd)
