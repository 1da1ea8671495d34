"""An idle agent costs the server little memory: a bound, far from what is usual."""

import sys
from pathlib import Path

import pytest
from taskloom_experiments.load.idle import IdleSettings, measure_idle

AGENTS = 400
KIB_EACH = 64.0


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
@pytest.mark.parametrize("way", ["claim", "stream", "watch"])
async def test_idle_agent_takes_little_memory(way: str, tmp_path: Path) -> None:
    """Of some hundred agents that wait, each adds at most 64 KiB to the server's process."""
    settings = IdleSettings(
        way, agents=AGENTS, processes=1, connections=8, rest_s=0.1, settle_s=0.5
    )
    measured = await measure_idle(settings, tmp_path)

    (memory,) = [figure for figure in measured.figures if figure.name == "memory for each"]
    assert memory.value <= KIB_EACH
