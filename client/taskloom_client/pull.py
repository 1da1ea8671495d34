"""What a way of pulling is, and the two that keep nothing between two attempts: next and poll."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import grpc
from taskloom import v1

from taskloom_client.durations import proto_duration
from taskloom_client.errors import TaskloomError
from taskloom_client.held_task import HeldTask

if TYPE_CHECKING:
    from taskloom_client.agent import Agent


@dataclass(frozen=True)
class Pulled:
    """What one attempt brought: a task that the agent holds now, or why there is none."""

    task: HeldTask | None
    outcome: "v1.ClaimOutcome.ValueType"
    """CLAIM_OUTCOME_UNSPECIFIED: there is none for a reason that will have passed by now, such as
    that others were quicker."""
    retry_after: timedelta | None = None
    """With COOLING_DOWN: how long the worker rests still."""
    waited: bool = False
    """The attempt has waited itself, so that the next one may follow at once."""
    of_workflow: bool = False
    """It is so for every task of the workflow, and only for these."""


_TO_ANSWER = timedelta(seconds=30)
_WAITED_FOR = {
    v1.CLAIM_OUTCOME_NONE_READY,
    v1.CLAIM_OUTCOME_PAUSED,
    v1.CLAIM_OUTCOME_WIP_LIMIT,
    v1.CLAIM_OUTCOME_ROLE_FORBIDS,
}


class Pull(Protocol):
    """One attempt at getting a task, at once or after waiting for one.

    It makes its calls through ``agent.call``, says ``agent.hold`` of a task it got, and counts
    claims and empty answers in ``agent.counters``. How long to wait until the next attempt is the
    agent's business. An agent makes one attempt at a time.
    """

    async def __call__(self, agent: "Agent") -> Pulled:
        """Try once. Raises TaskloomError for what no further attempt would mend."""


@runtime_checkable
class Closable(Protocol):
    """A Pull that keeps something open; its agent closes it when it leaves."""

    async def aclose(self) -> None:
        """Close it."""


async def pull_next(agent: "Agent") -> Pulled:
    """Let the server choose: ClaimNextTask, in line with others until there is a task.

    Its claims are never refused for being late, and an agent that waits makes no calls.
    """
    request = v1.ClaimNextTaskRequest(
        worker_id=agent.worker_id, wait=proto_duration(agent.wait), order_by=agent.order_by
    )
    answer = await agent.call(
        agent.client.claims.ClaimNextTask,
        request,
        timeout=(agent.wait + _TO_ANSWER).total_seconds(),
    )
    if answer.tasks:
        agent.counters.claims_tried += 1
        agent.counters.claims_granted += 1
        return Pulled(agent.hold(answer.tasks[0], answer.prompts), answer.outcome)
    agent.counters.empty_polls += 1
    rest = answer.retry_after.ToTimedelta() if answer.HasField("retry_after") else None
    waited = answer.outcome in _WAITED_FOR
    return Pulled(None, answer.outcome, rest, waited)


# How many tasks an attempt looks at: where the first are of workflows without room, at more.
_POLL_PAGES = (10, 100, 1_000)
_POLL_ATTEMPTS = 3


async def pull_poll(agent: "Agent") -> Pulled:
    """Choose oneself: list what is ready, claim the first, and where others were quicker, again.

    Always the first of the list, though spreading out would lose fewer races: how often agents
    get in each other's way when all of them want the best task is what this way of pulling is
    there to show. Only tasks of a workflow that has no room for another are passed over, a
    thousand of them at the most.
    """
    full: dict[str, Pulled] = {}
    for _ in range(_POLL_ATTEMPTS):
        async with aclosing(_ready(agent)) as ready:
            async for task in ready:
                if task.workflow in full:
                    continue
                pulled = await claim(agent, task.id)
                if not pulled.of_workflow:
                    break
                full[task.workflow] = pulled
            else:
                agent.counters.empty_polls += 1
                return next(iter(full.values()), Pulled(None, v1.CLAIM_OUTCOME_NONE_READY))
        if pulled.outcome != v1.CLAIM_OUTCOME_UNSPECIFIED:
            return pulled
    return Pulled(None, v1.CLAIM_OUTCOME_UNSPECIFIED)


async def _ready(agent: "Agent") -> AsyncGenerator[v1.Task, None]:
    """What is ready, best first; listed as far as it is looked at."""
    page_token = ""
    for page_size in _POLL_PAGES:
        listed = await agent.call(
            agent.client.tasks.ListTasks,
            v1.ListTasksRequest(
                ready=True,
                qualified_for_worker_id=agent.worker_id,
                order_by=agent.order_by,
                page_size=page_size,
                page_token=page_token,
            ),
        )
        for task in listed.tasks:
            yield task
        page_token = listed.next_page_token
        if not page_token:
            return


# Refusals of a claim that are about the worker or the system, and about all tasks of a workflow.
# What else is refused is so for the task alone; FILE_LOCKED is not, where no files are asked for.
_HELD_BACK = {
    "PAUSED": v1.CLAIM_OUTCOME_PAUSED,
    "COOLING_DOWN": v1.CLAIM_OUTCOME_COOLING_DOWN,
    "CLAIM_LIMIT": v1.CLAIM_OUTCOME_LIMIT_REACHED,
    "ROLE_FORBIDS": v1.CLAIM_OUTCOME_ROLE_FORBIDS,
}
_OF_WORKFLOW = {
    "WIP_LIMIT": v1.CLAIM_OUTCOME_WIP_LIMIT,
    "WORKFLOW_NOT_FOUND": v1.CLAIM_OUTCOME_NONE_READY,  # it is not loaded any more
}


async def claim(agent: "Agent", task_id: str) -> Pulled:
    """Claim a task that seemed to be ready. Unspecified as an outcome: it is so no more."""
    agent.counters.claims_tried += 1
    try:
        claimed = await agent.call(
            agent.client.claims.ClaimTask,
            v1.ClaimTaskRequest(worker_id=agent.worker_id, task_id=task_id),
        )
    except TaskloomError as error:
        if error.reason in _HELD_BACK:
            return Pulled(None, _HELD_BACK[error.reason], error.retry_delay)
        if error.reason in _OF_WORKFLOW:
            return Pulled(None, _OF_WORKFLOW[error.reason], of_workflow=True)
        if not _outdated(error):
            raise
        agent.counters.claims_refused += 1
        return Pulled(None, v1.CLAIM_OUTCOME_UNSPECIFIED)
    agent.counters.claims_granted += 1
    return Pulled(agent.hold(claimed.task, claimed.prompts), v1.CLAIM_OUTCOME_CLAIMED)


def _outdated(error: TaskloomError) -> bool:
    """True when the refusal means that what was known of the task is no longer true."""
    return error.code is grpc.StatusCode.FAILED_PRECONDITION or error.reason == "TASK_NOT_FOUND"
