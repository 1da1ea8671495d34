"""What a report says of runs that were simulated."""

from taskloom_experiments.comparison import Comparison
from taskloom_experiments.formatting import duration, listed


def about_simulation(comparison: Comparison) -> str:
    """Which runs were simulated, and what calls cost in them; empty where none was."""
    records = {run.label: run.record for run in comparison.runs if run.record}
    simulated = {label: record for label, record in records.items() if record.simulated}
    if not simulated:
        return ""
    everything = len(simulated) == len(comparison.runs)
    which = "All runs were" if everything else f"These were: {listed(list(simulated))}. They were"
    took_ms = 1000 * sum(record.simulated.get("took_s", 0) for record in simulated.values())
    passed_ms = sum(record.ended_at - record.started_at for record in simulated.values())
    costs = {
        (record.simulated.get("call_s", 0), record.simulated.get("server_s", 0))
        for record in simulated.values()
    }
    told = listed(
        [
            f"{1000 * call:g} ms there and back and {1000 * turn:g} ms at the server"
            for call, turn in sorted(costs)
        ]
    )
    return (
        f"**Simulated.** {which} made on a virtual clock: the same agents on the same coordinator, "
        f"without processes, network and waiting. A call took {told}, which serves one after the "
        f"other. {duration(passed_ms)} passed so in {duration(took_ms)}."
    )
