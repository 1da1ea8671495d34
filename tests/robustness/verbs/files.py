"""What is done with files: marks, locks, and what is attached to tasks."""

import hashlib
from typing import Any

from taskloom import v1

from tests.robustness.agents import Agent
from tests.robustness.recording import content_of, tag_of
from tests.robustness.verbs.choice import action, seconds, some_paths

# Of some of them there are gates, and of those some take the place of the one before.
TYPES = ("note", "log", "review", "check", "plan", "lesson", "test-run")


@action(2, side=2)
async def mark_files(agent: Agent) -> None:
    """Say which files one works on."""
    rng = agent.rng
    task_id, claim = agent.a_claim() if rng.random() < 0.8 else ("", 0)
    wait = rng.choice((0.0, 0.0, 0.3, 1.0))
    number = agent.board.number()
    await agent.call(
        "MarkFiles",
        v1.MarkFilesRequest(
            worker_id=agent.id,
            paths=some_paths(agent),
            task_id=task_id,
            claim_revision=claim,
            reason=tag_of(number),
            wait=seconds(wait) if wait else None,
        ),
        number=number,
        seconds=3.0 + wait,
    )


@action(1, side=1)
async def unmark_files(agent: Agent) -> None:
    """Say that one does not any more."""
    rng = agent.rng
    number = agent.board.number()
    await agent.call(
        "UnmarkFiles",
        v1.UnmarkFilesRequest(
            worker_id=agent.id,
            paths=some_paths(agent) if rng.random() < 0.6 else (),
            reason=tag_of(number),
        ),
        number=number,
    )


@action(2, side=2)
async def attach(agent: Agent) -> None:
    """Keep something with a task."""
    rng = agent.rng
    task_id, claim = agent.a_claim()
    number = agent.board.number()
    answer = await agent.call(
        "Attach",
        v1.AttachRequest(
            worker_id=agent.id,
            task_id=task_id,
            claim_revision=claim,
            type=rng.choice(TYPES),
            name=tag_of(number),
            content=rng.randbytes(rng.choice((0, 20, 200))),
        ),
        number=number,
    )
    _note(agent, answer)


def _note(agent: Agent, answer: Any) -> None:
    if answer is not None:
        made = answer.attachment
        agent.attached.append((made.task_id, made.type, made.sequence))


@action(0.2)
async def upload(agent: Agent) -> None:
    """Keep something large with a task, or by the same way something small."""
    rng = agent.rng
    task_id, claim = agent.a_claim()
    number = agent.board.number()
    size = rng.choice((1_000, 1_100_000, 1_500_000))
    content = content_of(number, size)
    options = v1.UploadOptions(
        worker_id=agent.id,
        task_id=task_id,
        claim_revision=claim,
        type=rng.choice(TYPES),
        name=tag_of(number),
    )
    if rng.random() < 0.5:
        options.size = size
        options.sha256 = hashlib.sha256(content).hexdigest()
    request = v1.UploadAttachmentRequest(options=options)
    answer = await agent.call(
        "UploadAttachment", request, number=number, seconds=10, content=content
    )
    _note(agent, answer)


@action(0.5)
async def detach(agent: Agent) -> None:
    """Take something away that one has attached."""
    if agent.attached:
        task_id, type_, sequence = agent.attached.popleft()
        await agent.call(
            "Detach",
            v1.DetachRequest(worker_id=agent.id, task_id=task_id, type=type_, sequence=sequence),
        )
