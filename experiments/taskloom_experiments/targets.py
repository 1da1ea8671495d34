"""Targets: what a definition hopes for, written for people, judged where it can be.

"> 90% success rate with 4 agents" is a comparison with a scope; "Queue wait should decrease with
more agents" is prose. Prose is shown and not judged, and so is a comparison with a word in it that
is not understood here: it may be the word that matters.
"""

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from taskloom_experiments.catalogue import METRICS, metric_named

Judgement = Literal["met", "missed", "not judged"]

_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "==": operator.eq,
}
_IN_WORDS = {
    "≥": ">=",
    "≤": "<=",
    "=": "==",
    "at least": ">=",
    "at most": "<=",
    "less than": "<",
    "fewer than": "<",
    "under": "<",
    "below": "<",
    "more than": ">",
    "over": ">",
    "above": ">",
}
_TO_MS = {"ms": 1, "s": 1_000, "seconds": 1_000, "min": 60_000, "minutes": 60_000, "h": 3_600_000}

_COMPARISON = re.compile(
    r"(?P<subject>.*?)\s*"
    r"(?P<op>>=|<=|==|[<>=≥≤]|\b(?:at least|at most|less than|fewer than|more than|under|below"
    r"|over|above)\b)\s*"
    r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>%|(?:ms|s|seconds|min|minutes|h)\b)?(?P<rest>.*)"
)
_ZERO = re.compile(r"(?P<subject>)(?:zero|none)\b(?P<rest>.*)")
_BETWEEN_CLAUSES = re.compile(r"[,;]\s+|\s+and\s+(?=[<>=≥≤])")
_REMARK = re.compile(r"\([^)]*\)")
_SCOPE = re.compile(r"\b(?:with|for|at)\s+(?P<agents>\d+)\s*(?P<more>\+| or more)?\s*agents?\b")
_OF_SINGLE = re.compile(r"\bof (?:the )?single[- ]agent(?: throughput)?\b")
_INDEPENDENT = re.compile(r"\bfor (?:truly )?independent tasks\b")

# What a target may call the figure it means, where that is not the measurement's own.
_SUBJECTS = (
    (re.compile(r"\bcoefficient of variation\b"), "coefficient_of_variation"),
    (re.compile(r"\bgini(?: coefficient)?\b"), "gini_coefficient"),
    (re.compile(r"\bsuccess rate\b"), "claim_success_rate"),
    (re.compile(r"\bretries(?: on)?(?: average)? per task\b"), "claim_retries_per_task"),
    (re.compile(r"\bidle(?: time)?\b"), "idle_time_ratio"),
    (re.compile(r"\b(?:median|p50)\b"), "queue_wait_p50_ms"),
    (re.compile(r"\bp99\b"), "queue_wait_p99_ms"),
)
_FILLERS = frozenset(
    {"a", "the", "of", "per", "in", "is", "be", "average", "mean", "overall"}
    | {"agent", "agents", "task", "tasks"}
)


@dataclass(frozen=True)
class Clause:
    """One comparison of a target, for runs with ``agents`` agents (``or_more``), or for all.

    ``of_single_agent``: the figure is taken as a share of the one-agent run's.
    """

    metric: str
    comparison: str
    bound: float
    agents: int | None = None
    or_more: bool = False
    of_single_agent: bool = False

    def applies_to(self, agents: int) -> bool:
        """Whether it says anything about a run with this many agents."""
        if self.of_single_agent and agents == 1:
            return False  # that run is the measure
        if self.agents is None:
            return True
        return agents >= self.agents if self.or_more else agents == self.agents


@dataclass(frozen=True)
class Target:
    """A target as written and as read; without clauses it is shown, not judged.

    ``only_if_independent``: it was meant for tasks that do not wait for each other.
    """

    text: str
    clauses: tuple[Clause, ...] = ()
    not_judged: str | None = None
    only_if_independent: bool = False


@dataclass(frozen=True)
class Verdict:
    """What a target says of one run; ``detail`` is why, where it is not judged or needs a word.

    ``out_of_reach``: missed, and the best possible schedule would have missed it as well.
    """

    judgement: Judgement
    detail: str = ""
    out_of_reach: bool = False


def parse_target(text: str, measurement: str, metric: str | None = None) -> Target:
    """Read the target of a measurement; never fails: what cannot be read is not judged.

    ``metric`` is the figure it is about, by default the one of the measurement's name.
    """
    own = metric_named(metric or measurement)
    plain = _REMARK.sub(" ", text.lower())
    independent = bool(_INDEPENDENT.search(plain))
    plain = _INDEPENDENT.sub(" ", plain)
    clauses = []
    for part in _BETWEEN_CLAUSES.split(plain.strip()):
        match = _COMPARISON.fullmatch(part) or _ZERO.fullmatch(part)
        if match is None:
            return Target(text, not_judged="prose: for people to judge")
        clause = _clause(match, measurement, own.name if own else measurement)
        if isinstance(clause, str):
            return Target(text, not_judged=clause)
        clauses.append(clause)
    return Target(text, tuple(clauses), only_if_independent=independent)


def judge(
    target: Target,
    agents: int,
    figures: Mapping[str, float],
    single_agent: Mapping[str, float] | None,
) -> Verdict:
    """Judge a run's figures; ``single_agent`` are those of the one-agent run, if there is one."""
    if target.not_judged:
        return Verdict("not judged", target.not_judged)
    applicable = [clause for clause in target.clauses if clause.applies_to(agents)]
    if not applicable:
        return Verdict("not judged", f"says nothing of a run with {agents} agents")
    for clause in applicable:
        value = figures.get(clause.metric)
        if value is None:
            return Verdict("not judged", f"there is no {clause.metric}")
        if clause.of_single_agent:
            alone = (single_agent or {}).get(clause.metric)
            if not alone:
                return Verdict("not judged", "there is no run with one agent to compare with")
            value /= alone
        if not _COMPARISONS[clause.comparison](value, clause.bound):
            return Verdict("missed", _for_independent(target, figures))
    return Verdict("met", _for_independent(target, figures))


def _for_independent(target: Target, figures: Mapping[str, float]) -> str:
    waiting = figures.get("dependent_count", 0)
    if not target.only_if_independent or not waiting:
        return ""
    return (
        f"meant for independent tasks; {waiting:.0f} of {figures.get('total_count', 0):.0f} here "
        "had to wait for others"
    )


def _clause(match: re.Match[str], measurement: str, metric: str) -> Clause | str:
    """A clause, or why it cannot be judged."""
    parts = match.groupdict()
    words = f"{parts['subject']} {parts['rest']}"
    scope = _SCOPE.search(words)
    of_single_agent = bool(_OF_SINGLE.search(words))
    words = _OF_SINGLE.sub(" ", _SCOPE.sub(" ", words))
    for phrase, name in _SUBJECTS:
        if phrase.search(words):
            metric, words = name, phrase.sub(" ", words)
            break
    understood = _FILLERS | set(re.split(r"[_\W]+", f"{measurement} {metric}"))
    strange = [word for word in re.findall(r"[^\W_]+", words) if word not in understood]
    if strange:
        return f"not understood: '{' '.join(strange)}'"
    comparison = parts.get("op", "==")
    bound = _bound(metric, float(parts.get("number", 0)), parts.get("unit"), of_single_agent)
    if isinstance(bound, str):
        return bound
    return Clause(
        metric=metric,
        comparison=_IN_WORDS.get(comparison, comparison),
        bound=bound,
        agents=int(scope["agents"]) if scope else None,
        or_more=bool(scope and scope["more"]),
        of_single_agent=of_single_agent,
    )


def _bound(metric: str, number: float, unit: str | None, of_single_agent: bool) -> float | str:
    """The number in the unit of the figure, or why it does not fit."""
    own = METRICS[metric].unit if metric in METRICS else None
    if unit is None or (unit == "%" and own == "percent"):
        return number
    if unit == "%" and (own == "ratio" or of_single_agent):
        return number / 100
    if unit in _TO_MS and own == "ms":
        return number * _TO_MS[unit]
    return f"{metric} is not measured in {unit}"
