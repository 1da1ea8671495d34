"""Prompts: what a workflow says to a worker comes with the answer to what the worker did."""

from typing import TYPE_CHECKING, Any

from structlog.testing import capture_logs
from taskloom import v1
from taskloom_client import Client
from taskloom_server.graph.workflows import Role

from tests.calls import claim, claim_next, connect, create, disconnect, duration
from tests.work_streams import WorkStream
from tests.workflows_obeyed.boards import board, phases, prompt, states
from tests.workflows_obeyed.conftest import Serving

if TYPE_CHECKING:
    from tests.conftest import TestClock


def _told(prompts: Any) -> list[str]:
    return [f"{one.trigger}: {one.text}" for one in prompts]


def _said(task: str, prompts: Any) -> list[str]:
    """Likewise, of one task."""
    return _told(one for one in prompts if one.task_id == task)


TALKATIVE = board(
    **states(
        {
            "pending": {
                "enter_prompt": prompt("{{ task.id or 'tasks' }} to be had"),
                "exit_prompt": prompt("taken from {{ valid_exits }}"),
            },
            "working": {
                "enter_prompt": prompt(
                    "{{ worker.id }} ({{ worker.role }}) does {{ task.title }}: "
                    "{{ current_status }}"
                ),
                "exit_prompt": prompt("done with {{ task.id }}"),
            },
            "completed": {"enter_prompt": prompt("{{ workflow.name }} thanks {{ worker.id }}")},
            "failed": {"enter_prompt": prompt("say why")},
        }
    ),
    **phases(
        {
            "design": {"exit_prompt": prompt("designed")},
            "implement": {
                "enter_prompt": prompt("write it; phases are {{ valid_phases | length }}"),
                "exit_prompt": prompt("written"),
            },
        }
    ),
    combination_prompts={("working", "implement"): prompt("at {{ current_phase }}")},
    roles=(Role("coder", frozenset({"code"}), prompt=prompt("you write code")),),
    connect_prompt=prompt("welcome, {{ worker.id }}"),
)


async def _claim(client: Client, worker: str, task: str, **fields: Any) -> Any:
    request = v1.ClaimTaskRequest(worker_id=worker, task_id=task, **fields)
    return (await client.claims.ClaimTask(request)).prompts


async def test_a_claim_is_told_what_it_leaves_and_what_it_begins(serve: Serving) -> None:
    """Exit of the old state, enter of the new one, the phase taken up, and what both ask."""
    async with serve(TALKATIVE) as client:
        await connect(client, "ada", tags=["code"])
        await create(client, "t", phase="implement")
        assert _told(await _claim(client, "ada", "t")) == [
            "exit:pending: taken from completed, failed, pending, waiting",
            "enter:working: ada (coder) does t: working",
            "enter-phase:implement: write it; phases are 6",
            "combination:working+implement: at implement",
        ]


async def test_claiming_what_one_holds_begins_anew(serve: Serving) -> None:
    """A worker that starts afresh on its task is told everything again, but of leaving nothing."""
    async with serve(TALKATIVE) as client:
        await connect(client, "ada", tags=["code"])
        await create(client, "t", phase="implement")
        first = _told(await _claim(client, "ada", "t"))
        assert _told(await _claim(client, "ada", "t")) == first[1:]


async def test_each_of_several_tasks_has_its_own(serve: Serving) -> None:
    """Of several tasks that are given at once each prompt says of which it speaks."""
    async with serve(TALKATIVE) as client:
        await connect(client, "ada", max_claims=3)
        for id in ("a", "b"):
            await create(client, id)
        request = v1.ClaimNextTaskRequest(worker_id="ada", max_tasks=3)
        answer = await client.claims.ClaimNextTask(request)
        for id in ("a", "b"):
            assert _said(id, answer.prompts)[1] == f"enter:working: ada () does {id}: working"


async def test_ends_have_theirs(serve: Serving) -> None:
    """Completing, failing and releasing tell of the state that is left and of the one to come."""
    async with serve(TALKATIVE) as client:
        await connect(client, "ada", max_claims=3)
        told = {}
        for id in ("a", "b", "c"):
            await create(client, id)
            await claim(client, "ada", id)
        held: dict[str, Any] = {"worker_id": "ada"}
        done = await client.claims.CompleteTask(v1.CompleteTaskRequest(task_id="a", **held))
        failed = await client.claims.FailTask(v1.FailTaskRequest(task_id="b", **held))
        back = await client.claims.ReleaseTask(v1.ReleaseTaskRequest(task_id="c", **held))
        told = {answer.task.id: _told(answer.prompts) for answer in (done, failed, back)}
        assert told == {
            "a": ["exit:working: done with a", "enter:completed: board thanks ada"],
            "b": ["exit:working: done with b", "enter:failed: say why"],
            "c": ["exit:working: done with c", "enter:pending: c to be had"],
        }


async def test_late_work_leaves_the_state_it_was_done_in(
    serve: Serving, clock: "TestClock"
) -> None:
    """A completion that comes after the lease's end is told what leaving work is told."""
    async with serve(TALKATIVE) as client:
        await connect(client, "ada", lease=duration(1_000))
        await create(client, "t")
        held = await claim(client, "ada", "t")
        clock.advance(2_000)
        request = v1.CompleteTaskRequest(
            worker_id="ada", task_id="t", claim_revision=held.claim_revision
        )
        answer = await client.claims.CompleteTask(request)
        assert _told(answer.prompts)[0] == "exit:working: done with t"


async def test_another_phase_has_its_own(serve: Serving) -> None:
    """A change of phase tells of the phases, and of state and phase together, not of the state."""
    async with serve(TALKATIVE) as client:
        await connect(client, "ada")
        await create(client, "t", phase="design")
        await claim(client, "ada", "t")
        request = v1.UpdateTaskRequest(worker_id="ada", task_id="t", phase="implement")
        told = _told((await client.tasks.UpdateTask(request)).prompts)
        assert [line.partition(": ")[0] for line in told] == [
            "exit-phase:design",
            "enter-phase:implement",
            "combination:working+implement",
        ]
        request = v1.UpdateTaskRequest(worker_id="ada", task_id="t", title="new")
        assert not (await client.tasks.UpdateTask(request)).prompts


async def test_a_person_has_no_worker_to_speak_of(serve: Serving) -> None:
    """What a worker's name stands for is empty where nobody says who moves the task."""
    async with serve(TALKATIVE) as client:
        await connect(client, "ada")
        await create(client, "t")
        await claim(client, "ada", "t")
        request = v1.UpdateTaskRequest(task_id="t", status="completed")
        told = _told((await client.tasks.UpdateTask(request)).prompts)
        assert told[1] == "enter:completed: board thanks"


async def test_an_assignment_speaks_to_the_assignee(serve: Serving) -> None:
    """Whoever assigns is answered what is said to the assignee, who hears it on connecting."""
    said = board(**states({"assigned": {"enter_prompt": prompt("for {{ worker.id }}")}}))
    async with serve(said) as client:
        await connect(client, "ada", "bob")
        await create(client, "t")
        request = v1.UpdateTaskRequest(task_id="t", worker_id="ada", assignee="bob")
        assert _told((await client.tasks.UpdateTask(request)).prompts) == [
            "enter:assigned: for bob"
        ]
        answer = await client.workers.Connect(v1.ConnectRequest(worker_id="bob"))
        assert _said("t", answer.prompts) == ["enter:assigned: for bob"]


async def test_who_connects_is_told_how_to_begin(serve: Serving) -> None:
    """Connect brings what is said at large, to the role, of tasks to be had, and of those held."""
    async with serve(TALKATIVE) as client:
        request = v1.ConnectRequest(worker_id="ada", tags=["code"])
        begun = [
            "connect: welcome, ada",
            "role:coder: you write code",
            "enter:pending: tasks to be had",
        ]
        answer = await client.workers.Connect(request)
        assert _told(answer.prompts) == begun
        await create(client, "t")
        await claim(client, "ada", "t")
        answer = await client.workers.Connect(request)
        assert _said("", answer.prompts) == begun
        assert _said("t", answer.prompts) == ["enter:working: ada (coder) does t: working"]


async def test_a_repeated_request_is_told_the_same(serve: Serving) -> None:
    """The same request_id brings the same prompts, though the task has gone on since."""
    async with serve(TALKATIVE) as client:
        await connect(client, "ada")
        await create(client, "t")
        first = await _claim(client, "ada", "t", request_id="once")
        await client.claims.CompleteTask(v1.CompleteTaskRequest(worker_id="ada", task_id="t"))
        again = await _claim(client, "ada", "t", request_id="once")
        assert first == again
        assert _told(again)[1] == "enter:working: ada () does t: working"


async def test_a_prompt_that_fails_is_left_out(serve: Serving) -> None:
    """A template that cannot be filled in for a task stops nothing: it is logged and left out."""
    odd = board(
        **states(
            {
                "pending": {"exit_prompt": prompt("good")},
                "working": {"enter_prompt": prompt("{{ 6 // (task.priority - 7) }}")},
            }
        )
    )
    async with serve(odd) as client:
        await connect(client, "ada")
        await create(client, "t", priority=7)
        with capture_logs() as logs:
            assert _told(await _claim(client, "ada", "t")) == ["exit:pending: good"]
        [entry] = [entry for entry in logs if entry["event"] == "cannot fill in a prompt"]
        assert (entry["trigger"], entry["task_id"]) == ("enter:working", "t")


async def test_a_stream_carries_them(serve: Serving) -> None:
    """On a Work stream they come with what begins it, with each assignment, and with each end."""
    async with serve(TALKATIVE) as client:
        await connect(client, "ada", tags=["code"])
        stream = WorkStream(client)
        started = await stream.ask(start=v1.WorkStart(worker_id="ada"), credit=1)
        assert _told(started.started.prompts)[0] == "connect: welcome, ada"
        await stream.hear("waiting")
        await create(client, "t", phase="implement")
        assigned = (await stream.hear("assigned")).assigned
        assert _said("t", assigned.prompts)[1] == "enter:working: ada (coder) does t: working"
        ended = await stream.ask(complete=v1.CompleteTaskRequest(task_id="t"))
        assert _told(ended.completed.prompts)[-1] == "enter:completed: board thanks ada"
        await disconnect(client, "ada")


async def test_a_workflow_without_prompts_says_nothing(serve: Serving) -> None:
    """Where a workflow has no prompts, no answer has any."""
    async with serve(board()) as client:
        assert not (await client.workers.Connect(v1.ConnectRequest(worker_id="ada"))).prompts
        await create(client, "t", phase="implement")
        assert not await _claim(client, "ada", "t")


async def test_a_prompt_that_becomes_too_long_is_cut(serve: Serving) -> None:
    """A claim is answered however long a task's own texts make its prompt; the log says so."""
    said = {"working": {"enter_prompt": prompt("{{ task.description }}" * 60)}}
    async with serve(board(**states(said))) as client:
        await connect(client, "ada", max_claims=20)
        for n in range(20):
            await create(client, f"t{n}", description="x" * 60_000)
        with capture_logs() as logs:
            told = (await _claim(client, "ada", "t0"))[0]
            every = (await claim_next(client, "ada", max_tasks=19)).prompts
        assert told.text.startswith("xxx")
        assert told.text.endswith(
            "[cut: a prompt has at most 65,536 characters, and those of an answer 1,048,576]"
        )
        assert len(told.text) < 66_000
        assert sum(len(one.text) for one in every) < 1_060_000
        assert {one["event"] for one in logs} == {"a prompt was cut"}
