"""A short run of the robustness suite: ``make robustness`` is the long one."""

from pathlib import Path

from tests.robustness.rounds import Size, run_round


async def test_promises_are_kept_under_load_and_faults(tmp_path: Path) -> None:
    """Clients see every promise kept while server and network fail in each way there is, once."""
    size = Size(calls=3_800, agents=20, streams=6, watchers=3, faults=12)
    outcome = await run_round("short", size, tmp_path)
    assert outcome.violations == [], "\n\n".join(outcome.accounts)
    assert outcome.figures["calls"] >= size.calls
    assert outcome.figures["kills"] >= 2
    assert sum(n for name, n in outcome.figures.items() if name.startswith("fault ")) == size.faults
