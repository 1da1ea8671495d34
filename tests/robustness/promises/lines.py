"""Who stands in line when, for sure, without looking at the server's clock.

A call stands there once a later call on the same connection has been answered, for calls are taken
in the order in which they come, and does until it is answered.
"""

from collections import defaultdict
from collections.abc import Iterator

from tests.robustness.history import History
from tests.robustness.recording import Attempt, Call

# Reads, and trials, take another way.
_READS = frozenset(
    {
        *("GetTask", "ListTasks", "GetStatus", "ExplainTask", "ListFileMarks", "ListAttachments"),
        *("CheckGates", "GetMetrics", "ImportSnapshot"),
    }
)
# So long after a fault connections may be made anew, and calls on them are sent in any order.
_MADE_ANEW_MS = 1_000
_IN_ORDER_MS = 50


def standing(history: History, verb: str) -> Iterator[tuple[Call, Attempt, float]]:
    """The calls of this verb that stood in line for sure, and since when, Unix ms."""
    answered: defaultdict[str, list[Attempt]] = defaultdict(list)
    for call in history.calls:
        if call.verb not in _READS:
            answered[call.agent] += (one for one in call.attempts if one.answered)
    for call in history.calls:
        if call.verb != verb:
            continue
        for attempt in call.attempts:
            later = [
                other.end
                for other in answered[call.agent]
                if attempt.start + _IN_ORDER_MS < other.start and other.end < attempt.end
            ]
            if later and _undisturbed(history, attempt.start, min(later)):
                yield call, attempt, min(later)


def _undisturbed(history: History, start: float, end: float) -> bool:
    """Whether no fault was committed in this time, or shortly before."""
    return not any(a < end and b + _MADE_ANEW_MS > start for a, b in history.faults)
