"""Runs in definitions: who takes part, how they differ, who coordinates; and what is refused."""

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent, indent

import pytest
from taskloom_experiments.behaviour import Behaviour
from taskloom_experiments.definition import DefinitionError, load_definition
from taskloom_experiments.planned_runs import PlannedRun

WriteRun = Callable[[str], Path]


@pytest.fixture
def write_run(tmp_path: Path) -> WriteRun:
    """Write a definition of one run, beside its template."""
    (tmp_path / "graph.json").write_text("{}", encoding="utf-8")

    def to_file(run: str) -> Path:
        file = tmp_path / "small.yaml"
        head = "experiment: {name: small}\nworkflow: swarm\ntemplate: graph.json\nruns:\n  -\n"
        file.write_text(head + indent(dedent(run).strip(), "    ") + "\n", encoding="utf-8")
        return file

    return to_file


def loaded(file: Path) -> PlannedRun:
    """The one run of a definition."""
    (run,) = load_definition(file).runs
    return run


def test_run_says_nothing_and_is_a_fleet_of_equals_that_pull(write_run: WriteRun) -> None:
    """With a name and a number alone agents are alike, pull, and behave as they always did."""
    run = loaded(write_run("{name: plain, agents: 3}"))
    assert (run.mode, run.pull, run.coordinator) == ("pull", None, None)
    (group,) = run.fleet
    assert (group.name, group.count, group.behaviour) == ("agent", 3, Behaviour())


def test_groups_are_a_fleet_of_agents_that_differ(write_run: WriteRun) -> None:
    """Each group has its own number, skills and behaviour; the run has as many agents as they."""
    run = loaded(
        write_run("""
            name: mixed
            groups:
              - {name: quick, count: 2, tags: [code], speed: 2, slow_response_s: 1}
              - {name: frail, tags: [code, test], failure_rate: 0.25, crash_at: 90,
                 restart_after: 30, crash_rate: 0.5, lease_s: 600, max_claims: 3}
        """)
    )
    assert run.agents == 3
    quick, frail = run.fleet
    assert (quick.count, quick.tags, quick.behaviour) == (
        2,
        ("code",),
        Behaviour(speed=2, slow_response_s=1),
    )
    assert (frail.count, frail.max_claims, frail.lease_s) == (1, 3, 600)
    assert frail.behaviour == Behaviour(
        failure_rate=0.25, crash_at=90, crash_rate=0.5, restart_after=30
    )


def test_coordinator_has_costs(write_run: WriteRun) -> None:
    """What is said of a coordinator is taken over; what is not said costs nothing."""
    run = loaded(
        write_run("""
            name: pushed
            mode: push
            agents: 4
            coordinator: {decision_s: 2, notice_s: 0.5, batch: 4, tokens_in: 900, max_backlog: 2}
        """)
    )
    assert run.coordinator is not None
    assert run.coordinator.model_dump() == {
        "workflow": None,
        "tags": ("coordinator", "lead"),
        "decision_s": 2,
        "notice_s": 0.5,
        "batch": 4,
        "tokens_in": 900,
        "tokens_out": 0,
        "max_backlog": 2,
    }


@pytest.mark.parametrize(
    ("run", "told"),
    [
        ("{name: r, agents: 0}", "runs[0].agents: is 0; write 1 or more"),
        ("{name: r, agents: 100000000}", "runs[0].agents: is 100000000; write 10000 or less"),
        (
            "{name: r, groups: [{name: a, count: 100000000}]}",
            "runs[0].groups[0].count: is 100000000; write 10000 or less",
        ),
        (
            "{name: r, groups: [{name: a, count: 6000}, {name: b, count: 6000}]}",
            "runs[0]: has 12000 agents in its groups; write 10000 or less",
        ),
        (
            "{name: r, agents: 1, agent_config: {max_claims: 1001}}",
            "runs[0].agent_config.max_claims: is 1001; write 1000 or less",
        ),
        ("{name: r}", "runs[0].agents: is missing; add it"),
        ("{name: r, groups: []}", "runs[0]: has nobody who works"),
        (
            "{name: r, mode: push, coordinator: {decision_s: 1}}",
            "runs[0]: has a coordinator and nobody who works; give it agents or groups",
        ),
        ("{name: r, groups: [{name: a, count: 0}]}", "runs[0].groups[0].count: is 0; write 1 or"),
        ("{name: r, groups: [{count: 2}]}", "runs[0].groups[0].name: is missing"),
        ("{name: r, groups: 7}", "runs[0].groups: "),
        ("{name: r, mode: shove, agents: 1}", "runs[0].mode: is 'shove'; write 'pull', 'push'"),
        ("{name: r, mode: push, agents: 1}", "runs[0]: is push and has nobody to hand out tasks"),
        ("{name: r, mode: hybrid, agents: 1}", "runs[0]: is hybrid and has nobody to hand out"),
        (
            "{name: r, agents: 1, coordinator: {}}",
            "runs[0]: is pull, where nobody hands out tasks; leave the coordinator out",
        ),
        ("{name: r, mode: relay, agents: 1, coordinator: {}}", "runs[0]: is relay, where nobody"),
        (
            "{name: r, agents: 1, agent_config: {failure_rate: -0.1}}",
            "runs[0].agent_config.failure_rate: is -0.1; write 0 or more",
        ),
        (
            "{name: r, groups: [{name: a, failure_rate: 1.5}]}",
            "runs[0].groups[0].failure_rate: is 1.5; write 1 or less",
        ),
        (
            "{name: r, groups: [{name: a, speed: 0}]}",
            "runs[0].groups[0].speed: is 0; write more than 0",
        ),
        ("{name: r, groups: [{name: a, crash_at: .inf}]}", "runs[0].groups[0].crash_at: "),
        ("{name: r, groups: [{name: a, crash_at: -1}]}", "runs[0].groups[0].crash_at: is -1"),
        (
            "{name: r, groups: [{name: a, restart_after: 5}]}",
            "runs[0].groups[0]: has restart_after and never crashes",
        ),
        (
            "{name: r, mode: push, agents: 1, coordinator: {decision_s: -2}}",
            "runs[0].coordinator.decision_s: is -2; write 0 or more",
        ),
        (
            "{name: r, mode: push, agents: 1, coordinator: {batch: 0}}",
            "runs[0].coordinator.batch: is 0; write 1 or more",
        ),
        (
            "{name: r, mode: push, agents: 1, coordinator: {speed: 2}}",
            "runs[0].coordinator.speed: is not known here",
        ),
        ("{name: r, agents: 3, groups: [{name: a}]}", "runs[0]: has 3 agents, and 1 in its groups"),
        (
            "{name: r, agent_config: {tags: [x]}, groups: [{name: a}]}",
            "runs[0]: has both groups and agent_config",
        ),
        (
            "{name: r, groups: [{name: a}, {name: A}]}",
            "runs[0]: has two groups named 'a'",
        ),
        (
            "{name: r, mode: push, groups: [{name: coordinator}], coordinator: {}}",
            "runs[0]: has a group named 'coordinator'",
        ),
        ("{name: r, agents: 1, pull: rope}", "runs[0]: has pull 'rope', which there is not"),
        (
            "{name: r, mode: push, pull: next, agents: 1, coordinator: {}}",
            "runs[0]: is push, where agents do not choose how to pull",
        ),
        (
            "{name: r, mode: hybrid, agents: 1, coordinator: {}, agent_config: {max_claims: 1}}",
            "runs[0]: is hybrid with a max_claims of 1; write 2 or more",
        ),
        (
            "{name: r, mode: hybrid, coordinator: {max_backlog: 3}, groups: ["
            "{name: a, max_claims: 4}, {name: b, max_claims: 3}]}",
            "runs[0]: is hybrid with a max_claims of 3; write 4 or more, for the tasks that",
        ),
        (
            "{name: r, agents: 1, decomposition: {parts: 2}}",
            "runs[0]: is pull, where nothing is decomposed",
        ),
    ],
)
def test_bad_run_is_refused_by_one_sentence(write_run: WriteRun, run: str, told: str) -> None:
    """Nobody to work, nobody to coordinate, a number out of range: the field, and what to do."""
    file = write_run(run)
    with pytest.raises(DefinitionError) as raised:
        load_definition(file)
    assert str(raised.value).removeprefix(f"{file}: ").startswith(told)
    assert "\n" not in str(raised.value)
