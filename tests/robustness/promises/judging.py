"""How an answer is held against the revision that it names: a judgement for each verb."""

from collections.abc import Callable
from typing import Any

from taskloom import v1

from tests.robustness.history import Step
from tests.robustness.model import Model
from tests.robustness.recording import Call

# What is missing or different in the revision of an answer; empty where all is there.
Judgement = Callable[[Call, Step, Model], str]

JUDGEMENTS: dict[str, Judgement] = {}


def judges(*verbs: str) -> Callable[[Judgement], Judgement]:
    """Enter the judgement of these verbs."""

    def enter(judgement: Judgement) -> Judgement:
        for verb in verbs:
            JUDGEMENTS[verb] = judgement
        return judgement

    return enter


def event_of(step: Step, *types: int, task_id: str = "", reason: str = "") -> Any:
    """The event of this revision that is of one of these types, and so on; None: there is none."""
    for event in step.events:
        if (
            (not types or event.type in types)
            and (not task_id or event.task_id == task_id)
            and (not reason or event.reason.partition("; ")[0] == reason)
        ):
            return event
    return None


def shown(step: Step, task: Any) -> bool:
    """Whether the history shows a task just so, in one of this revision's events."""
    return any(image == task for image in step.images(task.id))


def same(image: Any, task: Any) -> bool:
    """Whether a task is shown as in the history, but for what changes without an event."""
    if image == task:
        return True
    ours, theirs = v1.Task.FromString(image.SerializeToString()), v1.Task()
    theirs.CopyFrom(task)
    for one in (ours, theirs):
        one.ClearField("lease_expire_time")  # any sign of life moves it
    return ours == theirs
