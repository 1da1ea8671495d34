"""``python -m tests.robustness``: rounds until there were enough calls and enough time.

It ends with 0 when every promise was kept. A violation is told with the seed of its round, which
``--round`` runs again, and the round's folder is kept: the server's log, its file, all records.
"""

import argparse
import asyncio
import secrets
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.robustness.rounds import Size, run_round

_TOLD = 20  # violations of a round, a line each


def main() -> int:
    """Run; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.robustness", description=__doc__)
    parser.add_argument("--seed", default=secrets.token_hex(4), help="of the run; else made up")
    parser.add_argument("--round", dest="only", type=int, help="only the round of this number")
    parser.add_argument("--calls", type=int, default=20_000, help="in all, at least")
    parser.add_argument("--minutes", type=float, default=0, help="at least")
    parser.add_argument("--round-calls", type=int, default=20_000, help="in a round")
    parser.add_argument("--faults", type=int, default=12, help="in a round")
    parser.add_argument("--agents", type=int, default=28, help="in a process")
    parser.add_argument("--streams", type=int, default=8, help="agents by stream in a process")
    parser.add_argument("--watchers", type=int, default=4, help="in a process")
    parser.add_argument("--processes", type=int, default=1, help="of clients")
    parser.add_argument("--keep-going", action="store_true", help="also after a violation")
    options = parser.parse_args()
    size = Size(
        calls=min(options.round_calls, options.calls),
        agents=options.agents,
        streams=options.streams,
        watchers=options.watchers,
        faults=options.faults,
        processes=options.processes,
    )
    print(f"seed {options.seed}", flush=True)
    started = time.monotonic()
    figures: Counter[str] = Counter()
    endings: Counter[str] = Counter()
    number = options.only or 0
    while True:
        if not _one(f"{options.seed}/{number}", number, size, figures, endings) and (
            not options.keep_going
        ):
            break
        number += 1
        minutes = (time.monotonic() - started) / 60
        if options.only is not None or (
            figures["calls"] >= options.calls and minutes >= options.minutes
        ):
            break
    print(_closing(options.seed, time.monotonic() - started, figures, endings))
    return 1 if figures["violations"] else 0


def _one(seed: str, number: int, size: Size, figures: Counter[str], endings: Counter[str]) -> bool:
    """Run one round and tell of it; whether every promise was kept."""
    started = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix=f"robustness-{number}-"))
    outcome = asyncio.run(run_round(seed, size, folder))
    figures.update(outcome.figures)
    endings.update(outcome.endings)
    print(
        f"round {number}: {outcome.figures['calls']} calls, "
        f"{outcome.figures['revisions']} revisions, "
        f"{outcome.figures['violations']} violations, {time.monotonic() - started:.0f} s",
        flush=True,
    )
    for text in outcome.accounts or [f"{v.promise}: {v.text}" for v in outcome.violations[:5]]:
        print(f"\nVIOLATION with seed {seed}\n{text}", flush=True)
    if outcome.violations:
        for violation in outcome.violations[:_TOLD]:
            print(f"also: {violation.promise}: {violation.text}", flush=True)
        kinds = Counter(violation.promise for violation in outcome.violations)
        print(f"\nviolations: {dict(kinds)}; the evidence is in {folder}", flush=True)
        return False
    shutil.rmtree(folder)
    return True


def _closing(seed: str, seconds: float, figures: Counter[str], endings: Counter[str]) -> str:
    """The closing figures, a line each."""
    answers = endings["OK"]
    lines = [
        f"seed: {seed}",
        f"minutes: {seconds / 60:.1f}",
        f"calls: {figures['calls']}",
        f"answers: {answers}",
        "refusals and errors: "
        + ", ".join(f"{name} {count}" for name, count in endings.most_common() if name != "OK"),
    ]
    lines += [
        f"{name}: {count}"
        for name, count in sorted(figures.items())
        if name not in ("calls", "violations")
    ]
    return "\n".join([*lines, f"violations: {figures['violations']}"])


if __name__ == "__main__":
    sys.exit(main())
