"""Each mode of coordination for real: a server, agents and a coordinator as processes.

Tasks take a tenth of a second and less; what is asked of a run is what its database tells.
"""

import json
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from taskloom_experiments import observing
from taskloom_experiments.analysis import analyse_run
from taskloom_experiments.definition import load_definition
from taskloom_experiments.planning import plan_runs
from taskloom_experiments.runs import RunRecord
from taskloom_experiments.tables import Tables
from taskloom_experiments.templates import read_template

from .test_runner import HOUR_MS, Watcher, kill, run

MakeRun = Callable[..., Any]


@pytest.fixture(autouse=True)
def observant(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at runs more often than people need it."""
    monkeypatch.setattr(observing, "EVERY_S", 0.05)


class Made:
    """A run that was made: its record, what was said meanwhile, and its database, analysed."""

    def __init__(self, record: RunRecord, said: list[str], analysed: Any) -> None:
        self.record = record
        self.said = said
        self.figures: dict[str, float] = dict(analysed.figures)
        self.tables: Tables = analysed.tables

    def statuses(self, task_id: str) -> list[str]:
        """What became of a task, status by status."""
        return [
            row.status
            for row in self.tables.transitions
            if row.task_id == task_id and row.status is not None
        ]

    def causes(self, status: str) -> Counter[str | None]:
        """Who brought tasks into a status, and how often."""
        return Counter(row.worker_id for row in self.tables.transitions if row.status == status)

    def worked(self) -> dict[str, str | None]:
        """Who completed what."""
        return {task.id: task.worker_id for task in self.tables.tasks}


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Make the one run of a definition, at an hour in 0.1 s.

    ``killed`` is whose process is, as soon as a task is claimed.
    """

    async def make(
        more: str, tasks: list[dict[str, Any]], *blocks: tuple[str, str], killed: str | None = None
    ) -> Made:
        every = [
            {"title": one["id"], "status": "pending", "time_estimate_ms": HOUR_MS, **one}
            for one in tasks
        ]
        dependencies = [
            {"from_task_id": before, "to_task_id": after, "dep_type": "blocks"}
            for before, after in blocks
        ]
        template = tmp_path / "template.json"
        tables = {"tasks": every, "dependencies": dependencies}
        template.write_text(json.dumps({"schema_version": 3, "tables": tables}))
        file = tmp_path / "definition.yaml"
        file.write_text(
            "experiment: {name: modes}\nworkflow: swarm\ntemplate: template.json\nruns:\n"
            f"  - {{name: run, {more}}}\n"
        )
        definition = load_definition(file)
        (plan,) = plan_runs(
            definition,
            read_template(template),
            tmp_path / "results",
            pulls=("next",),
            speed=36_000,
            timeout_s=40,
        )
        teller = Watcher(partial(kill, plan.folder, killed)) if killed else Watcher()
        record = await run(plan, teller)
        return Made(record, teller.said, analyse_run(plan.folder / "tasks.db", definition))

    return make


async def test_coordinator_pushes_every_task(make_run: MakeRun) -> None:
    """Every task is assigned by the coordinator, begun by its worker, and refused to nobody."""
    made = await make_run(
        "mode: push, agents: 2, coordinator: {workflow: push, decision_s: 60, tokens_in: 1000},"
        "agent_config: {workflow: push}",
        [{"id": name} for name in ("a", "b", "c", "d", "last")],
        *((name, "last") for name in "abcd"),
    )

    assert not made.record.partial
    assert (made.record.agents, made.record.coordinators) == (2, ("coordinator",))
    assert made.causes("assigned") == {"coordinator": 5}
    for task_id in "abcd":
        assert made.statuses(task_id) == ["pending", "assigned", "working", "completed"]
    assert set(made.worked().values()) == {"agent-1", "agent-2"}
    assert made.figures["claim_attempts"] == made.figures["claims_granted"] == 5
    assert made.figures["reassignments"] == 0
    assert made.figures["coordinator_time_ms"] >= 5 * 60_000 / 36_000
    assert made.figures["coordinator_cost_usd"] == pytest.approx(5 * 0.003)
    assert made.record.agent_counters["coordinator"]["calls"] >= 10
    assert all(task.tokens[0] > 1_000 for task in made.tables.tasks)


async def test_pushed_agents_never_look_at_the_queue(make_run: MakeRun) -> None:
    """With a backlog of two each has its next task before it is done with the one at hand."""
    made = await make_run(
        "mode: push, agents: 1, coordinator: {max_backlog: 2}",
        [{"id": name} for name in "abc"],
    )
    rows = [(row.task_id, row.status) for row in made.tables.transitions if row.worker_id]
    assert rows.index(("b", "assigned")) < rows.index(("a", "completed"))
    assert made.causes("working") == {"agent-1": 3}


async def test_failed_attempt_is_assigned_anew(make_run: MakeRun) -> None:
    """What fails is ready again, and the coordinator hands it out again; costs count each time."""
    made = await make_run(
        "mode: push, coordinator: {}, groups: [{name: careless, count: 2, failure_rate: 0.5}]",
        [{"id": f"t{number}", "max_attempts": 1000} for number in range(6)],
    )
    failed = sum(
        row.status == "pending" and row.worker_id is not None for row in made.tables.transitions
    )
    assert failed > 0
    assert made.figures["reassignments"] == failed
    assert made.figures["completed_count"] == 6
    assert made.figures["first_pass_success"] < 1


async def test_hybrid_agents_decompose_and_help(make_run: MakeRun) -> None:
    """The lead assigns the one task, its worker makes parts of it, and the other one helps."""
    made = await make_run(
        "mode: hybrid, agents: 2, agent_config: {workflow: hierarchical},"
        "coordinator: {workflow: hierarchical}, decomposition: {parts: 4, tokens_in: 500}",
        [{"id": "whole", "time_estimate_ms": 8 * HOUR_MS}],
    )

    assert not made.record.partial
    assert made.causes("assigned") == {"coordinator": 1}
    parts = {f"whole.{number}" for number in range(1, 5)}
    worked = made.worked()
    assert worked.keys() == {"whole", "whole.parts", *parts}
    assert {worked[part] for part in parts} == {"agent-1", "agent-2"}
    ended = {task.id: task.completed_at or 0 for task in made.tables.tasks}
    assert ended["whole"] >= max(ended[part] for part in parts)
    assert made.figures["completed_by_agents"] == 1
    assert made.figures["agent_count"] == 2


async def test_hybrid_without_help(make_run: MakeRun) -> None:
    """Who has nothing assigned works no part of another's task, however long that takes."""
    made = await make_run(
        "mode: hybrid, agents: 2, agent_config: {workflow: hierarchical},"
        "coordinator: {workflow: hierarchical}, decomposition: {parts: 4, help: false}",
        [{"id": "whole", "time_estimate_ms": 8 * HOUR_MS}],
    )
    assert not made.record.partial
    assert len(set(made.worked().values()) - {None}) == 1  # what holds the parts ends by itself
    assert made.figures["completed_by_agents"] == 1


async def test_hybrid_without_help_of_which_a_part_failed(make_run: MakeRun) -> None:
    """The other parts are worked by whose they are before the task fails."""
    made = await make_run(
        "mode: hybrid, agents: 1, coordinator: {}, agent_config: {failure_rate: 1},"
        "decomposition: {parts: 3, help: false}",
        [{"id": "whole", "max_attempts": 1}],
    )
    assert made.statuses("whole")[-1] == "failed"
    assert made.figures["failed_count"] == 4  # the task and its three parts


async def test_hybrid_task_of_which_a_part_failed_fails(make_run: MakeRun) -> None:
    """Parts that cannot be done are not passed over, and the run says what that leaves open."""
    made = await make_run(
        "mode: hybrid, agents: 1, coordinator: {}, agent_config: {failure_rate: 1},"
        "decomposition: {parts: 2}",
        [{"id": "whole", "max_attempts": 1}],
    )
    assert made.statuses("whole")[-1] == "failed"
    assert made.figures["failed_count"] == 3  # the task and its two parts
    assert made.record.partial_reason == "the agents are gone and 1 of 4 tasks are open"


async def test_hybrid_agent_that_comes_back_works_the_part_it_still_holds(
    make_run: MakeRun,
) -> None:
    """Killed at a part it holds two claims, as many as it may: it asks nobody for a third."""
    made = await make_run(
        "mode: hybrid, coordinator: {}, decomposition: {parts: 2},"
        "groups: [{name: frail, crash_at: 3600, restart_after: 60}]",
        [{"id": "whole", "time_estimate_ms": 6 * HOUR_MS}],
    )
    assert not made.record.partial
    assert made.figures["completed_count"] == 4  # the task, its two parts and what holds these
    assert made.record.agent_counters["frail-1"]["crashes"] == 1
    assert made.record.agent_counters["frail-1"]["calls"] < 100


async def test_relay_hands_on_from_specialist_to_specialist(make_run: MakeRun) -> None:
    """Each phase is worked by who has its tag, and leaves what the next one asks for."""
    built = {"phase": "implement", "needed_tags": ["implementer"]}
    made = await make_run(
        "mode: relay, groups: ["
        "{name: architect, tags: [architect], workflow: relay},"
        "{name: coder, tags: [implementer], workflow: relay, count: 2}]",
        [
            *({"id": f"d{n}", "phase": "design", "needed_tags": ["architect"]} for n in (1, 2)),
            *({"id": f"i{n}", **built} for n in (1, 2)),
        ],
        ("d1", "i1"),
        ("d2", "i2"),
    )
    assert not made.record.partial
    assert made.record.mode == "relay"
    worked = made.worked()
    assert worked["d1"] == worked["d2"] == "architect-1"
    assert {worked["i1"], worked["i2"]} <= {"coder-1", "coder-2"}
    assert made.figures["claim_retry_count"] == made.figures["assignments"] == 0


@pytest.mark.parametrize("pull", ["stream", "poll"])
async def test_slow_agents_take_longer_and_do_the_same(make_run: MakeRun, pull: str) -> None:
    """Half the speed and a slow response cost time, and nothing else."""
    made = await make_run(
        f"agents: 1, pull: {pull}, agent_config: {{speed: 0.5, slow_response_s: 360}}",
        [{"id": name} for name in "ab"],
    )
    assert not made.record.partial
    estimate_ms = HOUR_MS / 36_000
    assert made.figures["work_ms"] > 2 * 2 * estimate_ms * 0.4  # noise makes tasks shorter, too
    assert made.figures["completed_count"] == 2


async def test_killed_agent_comes_back_and_the_run_is_whole(make_run: MakeRun) -> None:
    """A crash that was planned is told of, is no error, and costs the task at hand once more."""
    made = await make_run(
        "mode: push, coordinator: {}, groups: [{name: frail, crash_at: 3600, restart_after: 3600}]",
        [{"id": "long", "time_estimate_ms": 6 * HOUR_MS}],
    )
    assert not made.record.partial
    assert "run (push): frail-1 was killed, as planned" in made.said
    assert made.record.agent_counters["frail-1"]["crashes"] == 1
    assert made.record.agent_counters["frail-1"]["exit_code"] == 0
    assert made.worked() == {"long": "frail-1"}


async def test_task_of_a_killed_agent_goes_to_another_when_its_lease_ends(
    make_run: MakeRun,
) -> None:
    """Nobody tells the server, so that the lease has to; the dead are assigned nothing again."""
    made = await make_run(
        "mode: push, coordinator: {}, groups: ["
        "{name: frail, crash_at: 3600, lease_s: 1}, {name: sturdy}]",
        [{"id": name, "time_estimate_ms": 4 * HOUR_MS} for name in "ab"],
    )
    assert not made.record.partial
    assert set(made.worked().values()) == {"sturdy-1"}
    assert made.figures["reassignments"] == 1


async def test_run_ends_when_every_agent_was_killed(make_run: MakeRun) -> None:
    """What is left is told, with who was killed; the coordinator goes, and nobody is left."""
    made = await make_run(
        "mode: push, coordinator: {}, groups: [{name: frail, count: 2, crash_at: 1800}]",
        [{"id": name, "time_estimate_ms": 20 * HOUR_MS} for name in "abc"],
    )
    assert made.record.partial
    assert made.record.partial_reason is not None
    assert made.record.partial_reason.startswith("the agents are gone and 3 of 3 tasks are open: ")
    assert "frail-2 was killed, as planned" in made.record.partial_reason


async def test_push_without_its_coordinator_stands_still_and_says_so(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed, nobody takes its place: what was assigned is worked, the rest is told, all go."""
    monkeypatch.setattr(observing, "STALLED_S", 3)  # it decides for a second
    made = await make_run(
        "mode: push, agents: 2, coordinator: {decision_s: 36000}",
        [{"id": name} for name in "abcd"],
        killed="coordinator",
    )
    left = 4 - made.figures["completed_count"]
    assert 1 <= left <= 3
    assert "run (push): coordinator ended by SIGKILL; the others go on" in made.said
    assert made.record.partial_reason == (
        f"{left:.0f} tasks are open and nothing moves: {left:.0f} are ready, but no agent takes "
        "them; coordinator ended by SIGKILL"
    )
    assert made.record.agent_counters["coordinator"] == {"crashes": 1, "exit_code": -9}
