"""What a report says of runs that were repeated: medians, and the hypotheses that they decide."""

from collections.abc import Sequence
from pathlib import Path

from taskloom_experiments.bootstrap import CONFIDENCE, DRAWS, FEWEST, Interval
from taskloom_experiments.catalogue import METRICS, Unit
from taskloom_experiments.comparison import Comparison
from taskloom_experiments.formatting import listed, plural, show
from taskloom_experiments.hypotheses import (
    CONTENTION,
    GINI,
    IDLE,
    SHARE,
    Claim,
    Compared,
    Hypothesis,
    Part,
    weigh,
)
from taskloom_experiments.repeats import Variant, variants
from taskloom_experiments.report_tables import NONE, table

FIGURES: tuple[tuple[str, str], ...] = (
    ("Wall clock", "wall_clock_ms"),
    ("Throughput, tasks an hour", "tasks_per_hour"),
    ("Distance from the best possible", "best_possible_distance"),
    ("Ready → assigned, mean", "dispatch_latency_mean_ms"),
    ("Assigned → working, mean", "pickup_latency_mean_ms"),
    ("Ready → working, median", "queue_wait_p50_ms"),
    ("Idle share", "idle_time_ratio"),
    ("Idle between tasks, an agent", "idle_between_tasks_ms"),
    ("Gini coefficient", "gini_coefficient"),
    ("Coefficient of variation", "coefficient_of_variation"),
    ("Claims refused", "claim_retry_count"),
    ("Calls per task", "calls_per_task"),
    ("Tokens per task", "tokens_per_task"),
    ("Cost per task", "cost_per_task_usd"),
    ("Coordinator's share of the time", "coordinator_share"),
    ("Blocking ratio", "blocking_ratio"),
    ("Reassignments", "reassignments"),
    ("Rework", "rework_rate"),
    ("First-pass success", "first_pass_success"),
)


def repeats_sections(comparison: Comparison) -> list[str]:
    """What was found over the repeats; empty where nothing was repeated."""
    found = [variant.whole for variant in variants(comparison.runs)]
    found = [variant for variant in found if variant.runs]
    if not found:
        return []
    told = hypotheses_of(found)
    sections: list[str] = []
    if told:
        sections += ["## The hypotheses", *(_hypothesis(one) for one in told), _about_verdicts()]
    sections += ["## Medians", _about_medians(found)]
    for title, figure in FIGURES:
        if text := median_table(found, figure):
            sections += [f"### {title}", METRICS[figure].meaning + ".", text]
    return sections


def hypotheses_of(found: Sequence[Variant]) -> tuple[Hypothesis, ...]:
    """The hypotheses as variants decide them; empty where a sweep changed more than agents."""
    if any(set(run.record.swept) - {"agents"} for one in found for run in one.runs if run.record):
        return ()
    return weigh([variant.observed() for variant in found])


def median_table(found: Sequence[Variant], figure: str) -> str:
    """Medians with their intervals: a column for each way, a row for each number of agents.

    Empty where nobody has the figure.
    """
    cells = [(variant, variant.interval(figure)) for variant in found]
    if not any(interval for _, interval in cells):
        return ""
    unit = METRICS[figure].unit
    rows = list(dict.fromkeys(_row(variant) for variant in found))
    ways = list(dict.fromkeys(variant.way for variant in found))
    if len({(_row(variant), variant.way) for variant in found}) < len(found):
        lines = [[variant.name, interval_text(interval, unit)] for variant, interval in cells]
        return table(["run", "median, and 95 % interval"], lines)
    lines = []
    for row in rows:
        of_row = {variant.way: mine for variant, mine in cells if _row(variant) == row}
        lines.append([row, *(interval_text(of_row.get(way), unit) for way in ways)])
    return table([_swept_key(found) or "agents", *ways], lines, figures=slice(1, None))


def interval_text(interval: Interval | None, unit: Unit) -> str:
    """As "20.4 (20.1 to 20.9)"; the interval is left out where all values are one."""
    if interval is None:
        return NONE
    middle = show(interval.median, unit)
    low, high = show(interval.low, unit), show(interval.high, unit)
    return middle if low == middle == high else f"{middle} ({low} to {high})"


def part_sentence(part: Part) -> str:
    """What decides a part, in words."""
    if not part.deciding:
        return "what would decide it was not measured"
    return "; ".join(compared_text(part.claim, one) for one in part.deciding)


def compared_text(claim: Claim, one: Compared) -> str:
    """A comparison in words."""
    interval = one.interval
    what = f"`{claim.figure}` of {one.left}"
    pairs = plural(interval.count, "pair")
    if claim.ratio:
        middle, low, high = (
            f"{100 * (value - 1):+.1f} %"
            for value in (interval.median, interval.low, interval.high)
        )
    else:
        middle, low, high = (
            f"{value:+.3f}" for value in (interval.median, interval.low, interval.high)
        )
    return f"{what} against {one.right}: {middle} ({low} to {high}, {pairs})"


def _hypothesis(hypothesis: Hypothesis) -> str:
    head = f"**{hypothesis.text}** Together: **{hypothesis.outcome}**."
    rows = []
    for part in hypothesis.parts:
        rows.append([part.claim.text, f"**{part.outcome}**", part_sentence(part)])
    text = f"{head}\n\n{table(['part', 'verdict', 'decided by'], rows, figures=None)}"
    beside = [
        [part.claim.text, one.agents, compared_text(part.claim, one), one.outcome]
        for part in hypothesis.parts
        for one in part.beside
    ]
    if beside:
        header = ["part", "agents", "compared", "it alone"]
        text += (
            "\n\n<details><summary>Beside it, which decides nothing: other numbers of agents, and "
            f"other ways of pulling</summary>\n\n{table(header, beside, figures=slice(1, 2))}\n\n"
            "</details>"
        )
    return text


def _about_verdicts() -> str:
    return (
        "Runs of the same seed did the same work and are compared in pairs; what is shown is the "
        f"median of the pairs and its {100 * CONFIDENCE:.0f} % bootstrap interval. With the most "
        "agents that both had is decided, and of the ways of pulling by the first of poll, watch, "
        "next and stream that was measured: agents that choose for themselves are who the "
        "hypotheses were made of. A part is supported where the whole interval is beyond what "
        f"would matter ({CONTENTION:g} refused claims a task, {GINI:g} of Gini, "
        f"{100 * IDLE:g} point of idle share, {100 * SHARE:g} % of a time, rate or cost), "
        "refuted where the whole interval is short of it, and else nobody can tell, nor with fewer "
        f"than {FEWEST} pairs. A hypothesis is refuted by one of its parts, supported only by all."
    )


def _about_medians(found: Sequence[Variant]) -> str:
    counts = sorted({len(variant.runs) for variant in found})
    repeats = listed([str(count) for count in counts])
    return (
        f"Of {repeats} whole runs each, with seeds of their own, made in turns: the median, and "
        f"behind it the {100 * CONFIDENCE:.0f} % percentile bootstrap interval of {DRAWS:,} draws "
        f"(seeded, so that it can be had again). Where all are alike there is none, and of fewer "
        f"than {FEWEST} runs an interval says too little."
    )


def _row(variant: Variant) -> str:
    record = variant.runs[0].record
    swept = record.swept if record else {}
    value = next(iter(swept.values()), "")
    if "template" in swept:
        value = Path(value).name
    return value or ("any" if swept else str(variant.agents))


def _swept_key(found: Sequence[Variant]) -> str:
    keys = [key for one in found for run in one.runs if run.record for key in run.record.swept]
    return keys[0] if keys else ""
