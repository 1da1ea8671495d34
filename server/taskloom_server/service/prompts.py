"""Prompts of answers: filled in where the answer is made, and not in anybody's transaction."""

from collections.abc import Iterable

import structlog
from taskloom.v1 import prompt_pb2

from taskloom_server.graph.prompts import MAX_PROMPT
from taskloom_server.graph.steps import Start, Step

MAX_PROMPTS = 1 << 20
"""Characters of all the prompts of an answer: one that is too large for the wire is lost."""

_CUT = "\n[cut: a prompt has at most {:,} characters, and those of an answer {:,}]"

_log = structlog.get_logger("prompts")


def prompts(steps: Iterable[Start | Step | None]) -> list[prompt_pb2.Prompt]:
    """The prompts that steps call for, filled in, those that come out empty left out.

    One that cannot be filled in is left out and logged: what the worker asked for is done by now,
    and is worth more than what was to be said of it. Likewise one that is too long is cut.
    """
    found: list[prompt_pb2.Prompt] = []
    room = MAX_PROMPTS
    for step in steps:
        if step is None:
            continue
        variables: dict[str, object] | None = None
        for trigger, prompt in step.prompts():
            if variables is None:
                variables = step.variables()
            task_id = step.task.id if isinstance(step, Step) else ""
            try:
                text = prompt.render(variables)
            except Exception as error:
                _log.error(
                    "cannot fill in a prompt",
                    workflow=step.workflow.name,
                    trigger=trigger,
                    task_id=task_id,
                    error=str(error),
                )
                continue
            if len(text) > min(MAX_PROMPT, room):
                _log.error(
                    "a prompt was cut",
                    workflow=step.workflow.name,
                    trigger=trigger,
                    task_id=task_id,
                )
                text = text[: min(MAX_PROMPT, room)] + _CUT.format(MAX_PROMPT, MAX_PROMPTS)
            room = max(0, room - len(text))
            if text:
                found.append(prompt_pb2.Prompt(trigger=trigger, text=text, task_id=task_id))
    return found
