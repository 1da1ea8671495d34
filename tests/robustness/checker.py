"""The checker: history is replayed once, and every promise looks on."""

import traceback
from dataclasses import dataclass

from taskloom import v1

from tests.robustness.history import History, Promise, Step, Violation
from tests.robustness.model import Model
from tests.robustness.promises import ALL
from tests.robustness.rules import Rules


@dataclass(frozen=True)
class Verdict:
    """What was not kept, in the order in which it was found, and how much was looked at."""

    violations: list[Violation]
    judged: dict[str, int]  # by promise: how often it was put to the test


def check(history: History, rules: Rules) -> Verdict:
    """Judge a history."""
    violations: list[Violation] = []
    promises = [promise(history, violations.append) for promise in ALL]
    model = Model(rules)
    numbers = [revision for revision, _ in history.truth.messages]
    if numbers != list(range(1, len(numbers) + 1)):
        missing = sorted(set(range(1, history.truth.revision + 1)) - set(numbers))
        broken = Violation(
            "watches",
            f"the watch from revision 1, which nobody disturbed, misses {missing[:5]} or tells "
            "revisions twice or out of order: nothing can be judged by it",
        )
        return Verdict([broken], {})
    try:
        _replay(history, promises, model)
    except (KeyError, ValueError, IndexError):  # such a history that the rest makes no sense
        why = f"the history cannot be replayed: {traceback.format_exc(limit=-3)}"
        violations.append(Violation("replay", why, model.revision))
    judged = {f"judged by {promise.name}": promise.judged for promise in promises}
    return Verdict(violations, judged)


def _replay(history: History, promises: list[Promise], model: Model) -> None:
    """Let everything happen again, and let all promises look on."""
    answered = history.answered()
    begin = Step(0, (), answered.get(0, ()))
    for promise in promises:
        promise.after(begin, model)
    for revision, contents in history.truth.messages:
        message = v1.WatchTasksResponse.FromString(contents)
        step = Step(revision, message.events.events, answered.get(revision, ()))
        for promise in promises:
            promise.before(step, model)
        for event in step.events:
            for promise in promises:
                promise.event(step, event, model)
            model.apply(event, revision)
        for promise in promises:
            promise.after(step, model)
    for promise in promises:
        promise.finish(model)
