"""How figures are written for people, by their unit, the same in reports, charts and terminals."""

from taskloom_experiments.catalogue import Unit

_SECOND, _MINUTE, _HOUR = 1_000, 60_000, 3_600_000


def show(value: float, unit: Unit) -> str:
    """A figure with its unit, as short as it can be without hiding a difference that matters."""
    whole = f"{value:,.0f}"
    return {
        "ratio": f"{100 * value:.1f} %",
        "percent": f"{value:.1f} %",
        "ms": duration(value),
        "usd": f"${value:,.2f}",
        "count": whole,
        "tokens": whole,
    }.get(unit) or (whole if abs(value) >= 100 else f"{value:.3g}")


def duration(ms: float) -> str:
    """A duration in the units one would say it in: 24 ms, 2.75 s, 1 min 16 s, 2 h 5 min."""
    if ms < _SECOND:
        return f"{ms:.0f} ms"
    if ms < _MINUTE:
        return f"{ms / _SECOND:.3g} s"
    large, small, unit, below = (
        (_MINUTE, _SECOND, "min", "s") if ms < _HOUR else (_HOUR, _MINUTE, "h", "min")
    )
    whole, rest = divmod(round(ms / small), large // small)
    return f"{whole} {unit} {rest} {below}" if rest else f"{whole} {unit}"


def listed(words: list[str]) -> str:
    """Words as a sentence has them: one, two and three."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def plural(count: float, noun: str) -> str:
    """1 agent, 2 agents."""
    return f"{count:,.0f} {noun}" if count == 1 else f"{count:,.0f} {noun}s"
