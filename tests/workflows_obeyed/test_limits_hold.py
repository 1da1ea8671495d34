"""Limits, whatever is done: never exceeded, never a reason to wait where there is room."""

from dataclasses import replace
from pathlib import Path
from shutil import copy
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from taskloom import v1
from taskloom_server.graph.workflows import Workflows

from tests.calls import duration
from tests.coordinator_machine.house import House
from tests.workflows_obeyed.boards import SWARM, board, states

LIMITS = {"working": 2, "assigned": 1, "waiting": 1}
LIMITED = board(**states({name: {"wip_limit": limit} for name, limit in LIMITS.items()}))
OPEN = replace(SWARM, name="open")
TASKS = [f"b{n}" for n in range(6)] + [f"o{n}" for n in range(2)]
WORKERS = {"any": [], "gpu": ["gpu"], "more": ["gpu"]}
LEASE_MS = 5_000

worker = st.sampled_from(sorted(WORKERS))
task = st.sampled_from(TASKS)
held = st.integers(0, 7)  # of those that are held, which; and its holder
act = st.one_of(
    st.tuples(st.just("wait"), worker, st.integers(1, 3)),
    st.tuples(st.just("next"), worker, st.integers(1, 3)),
    st.tuples(st.just("claim"), worker, task),
    st.tuples(st.just("advisory"), worker, task),
    st.tuples(st.sampled_from(["complete", "complete", "release", "fail"]), st.just(""), held),
    st.tuples(st.just("assign"), worker, task),
    st.tuples(st.just("move"), st.sampled_from(["waiting", "working", "pending", "failed"]), task),
    st.tuples(st.just("delete"), st.just(""), task),
    st.tuples(st.just("disconnect"), worker, st.just("")),
    st.tuples(st.just("time"), st.just(""), st.integers(1_000, 6_000)),
)


def _request(what: str, who: str, which: Any) -> tuple[str, Any]:
    held = {"worker_id": who, "task_id": which}
    match what:
        case "wait" | "next":
            wait = duration(60_000) if what == "wait" else None
            request = v1.ClaimNextTaskRequest(
                worker_id=who, max_tasks=which, wait=wait, wait_when_done=True
            )
            return "ClaimNextTask", request
        case "claim":
            return "ClaimTask", v1.ClaimTaskRequest(**held)
        case "advisory":
            return "ClaimTask", v1.ClaimTaskRequest(mode=v1.CLAIM_MODE_ADVISORY, **held)
        case "complete":
            return "CompleteTask", v1.CompleteTaskRequest(**held)
        case "release":
            return "ReleaseTask", v1.ReleaseTaskRequest(**held)
        case "fail":
            return "FailTask", v1.FailTaskRequest(retry=True, **held)
        case "assign":
            return "UpdateTask", v1.UpdateTaskRequest(task_id=which, assignee=who)
        case "move":
            return "UpdateTask", v1.UpdateTaskRequest(task_id=which, status=who)
        case "delete":
            return "DeleteTask", v1.DeleteTaskRequest(task_id=which, force=True)
        case _:
            return "Disconnect", v1.DisconnectRequest(worker_id=who)


def _connect(house: House, who: str) -> None:
    request = v1.ConnectRequest(
        worker_id=who, tags=WORKERS[who], max_claims=20, lease=duration(LEASE_MS)
    )
    house.start("Connect", request)


def _check(house: House, waiting: list[tuple[str, Any]]) -> None:
    """No state has more tasks than it may, and nobody waits for what he could be given."""
    tasks = house.ask("ListTasks", v1.ListTasksRequest(page_size=100)).tasks
    for state, limit in LIMITS.items():
        inside = [one.id for one in tasks if (one.workflow, one.status) == ("board", state)]
        assert len(inside) <= limit, f"{state}: {inside}"
    working = sum((one.workflow, one.status) == ("board", "working") for one in tasks)
    room = working < LIMITS["working"]
    for who, call in waiting:
        if call.done():
            continue
        for one in tasks:
            may = set(one.needed_tags) <= set(WORKERS[who])
            if one.ready and may and (room or one.workflow == "open"):
                raise AssertionError(f"{who} waits, though {one.id} is to be had")


@pytest.fixture(scope="module")
def empty(empty_db: Path) -> Path:
    """A database on which all migrations were run."""
    return empty_db


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(acts=st.lists(act, min_size=4, max_size=40))
def test_limits_are_kept_and_room_is_used(empty: Path, acts: list[tuple[str, Any, Any]]) -> None:
    """After each verb, and each one group of verbs, both hold, whatever came before."""
    with TemporaryDirectory() as folder:
        db = Path(folder) / "tasks.db"
        copy(empty, db)
        house = House(db, Workflows({"board": LIMITED, "open": OPEN}, "board"))
        try:
            for who in WORKERS:
                _connect(house, who)
            for number, id in enumerate(TASKS):
                workflow = "open" if id.startswith("o") else "board"
                needs = ["gpu"] if number % 2 else []
                house.start(
                    "CreateTask",
                    v1.CreateTaskRequest(id=id, title=id, workflow=workflow, needed_tags=needs),
                )
            house.settle()
            waiting: list[tuple[str, Any]] = []
            for what, who, which in acts:
                if what == "time":
                    house.clock.advance(which)
                    house.settle()
                    _check(house, waiting)
                    continue
                if what in {"complete", "release", "fail"}:
                    request = v1.ListTasksRequest(claimed=True, page_size=100)
                    claimed = house.ask("ListTasks", request).tasks
                    if not claimed:
                        continue
                    one = claimed[which % len(claimed)]
                    call = house.start(*_request(what, one.worker_id, one.id))
                else:
                    call = house.start(*_request(what, who, which))
                    if what == "wait":
                        waiting.append((who, call))
                    if what == "disconnect":
                        _connect(house, who)
                house.settle()
                _check(house, waiting)
        finally:
            house.end()
