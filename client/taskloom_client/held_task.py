"""A task in an agent's hands: the verbs of a claim holder, each with the claim it belongs to.

How the task came here, and what happens to it when nobody ends it, is the agent's business.
"""

import asyncio
import mimetypes
from collections.abc import Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from grpc import aio
from taskloom import v1

from taskloom_client.durations import proto_duration
from taskloom_client.errors import ClaimLost, TaskloomError
from taskloom_client.request_ids import new_request_id

if TYPE_CHECKING:
    from taskloom_client.agent import Agent


Ending: TypeAlias = v1.CompleteTaskRequest | v1.FailTaskRequest | v1.ReleaseTaskRequest
Ended: TypeAlias = v1.CompleteTaskResponse | v1.FailTaskResponse | v1.ReleaseTaskResponse

_INLINE = 1 << 20  # bytes; what is larger comes as a stream
_ANSWER_SECONDS = 30.0

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


class HeldTask:
    """A task that the agent holds by one claim.

    A claim can be lost under the work: its lease ran out, the task was deleted, the database was
    reset. No verb raises for that. It sets ``lost``, answers False, None or nothing, and so do the
    others from then on; the agent's loop goes on with another task. Only completing is still
    tried, for the server accepts late work as long as nobody else took the task.

    Everything else that is refused is raised as TaskloomError.
    """

    def __init__(self, agent: "Agent", task: v1.Task) -> None:
        self.agent = agent
        self.task = task
        """As the server told last."""
        self.prompts: list[v1.Prompt] = []
        """What the workflow had to say to the last that happened to it: that it was claimed,
        that it was moved or changed its phase, that it ended."""
        self.claim_revision = task.claim_revision
        self.lost_event = asyncio.Event()
        """Set when the claim is lost; wait for it to stop in the middle of long work."""
        self.begun = False
        """True once it was handed over to be worked on."""
        self.ended = False
        """True once the task was completed, failed or released, or proved to be gone."""
        self.ending = False
        """True while a call is under way that ends the task."""

    @property
    def id(self) -> str:
        """The task's id."""
        return self.task.id

    @property
    def lost(self) -> bool:
        """True when the claim is known to be lost."""
        return self.lost_event.is_set()

    @property
    def parked(self) -> bool:
        """True while it waits for something outside: it is held, but no lease runs."""
        return is_parked(self.task)

    def hear(self, prompts: Iterable[v1.Prompt]) -> None:
        """Take over what an answer has to say of this task, if it says anything."""
        if said := [prompt for prompt in prompts if prompt.task_id == self.id]:
            self.prompts = said

    async def complete(self, reason: str = "", *, force: bool = False, go_on: bool = False) -> bool:
        """End the task well. False when it was somebody else's by then.

        ``force`` goes past gates that may be forced, and is recorded. ``go_on`` is the loop's own:
        it has come back for the next task.
        """
        request = v1.CompleteTaskRequest(
            worker_id=self.agent.worker_id,
            task_id=self.id,
            claim_revision=self.claim_revision,
            reason=reason,
            force=force,
        )
        done = await self._end(request, go_on=go_on)
        self.agent.counters.tasks_completed += done
        return done

    async def fail(
        self, reason: str, *, retry: bool = True, retry_delay: timedelta | None = None
    ) -> bool:
        """Say that the work failed. False when the claim was lost.

        With ``retry`` and attempts left, anybody may take the task again once ``retry_delay`` has
        passed; else it fails for good.
        """
        request = v1.FailTaskRequest(
            worker_id=self.agent.worker_id,
            task_id=self.id,
            claim_revision=self.claim_revision,
            reason=reason,
            retry=retry,
            retry_delay=proto_duration(retry_delay),
        )
        done = not self.lost and await self._end(request)
        self.agent.counters.tasks_failed += done
        return done

    async def release(self, reason: str = "") -> bool:
        """Give the task back undone, for anybody to take. False when the claim was lost."""
        request = v1.ReleaseTaskRequest(
            worker_id=self.agent.worker_id,
            task_id=self.id,
            claim_revision=self.claim_revision,
            reason=reason,
        )
        return not self.lost and await self._end(request)

    async def mark(
        self, paths: Iterable[str], reason: str = "", *, wait: timedelta | None = None
    ) -> Sequence[v1.FileMark]:
        """Mark files as worked on for this task, until it ends. The marks of others on them.

        A path such as "lock:git-commit" is a lock: FILE_LOCKED is raised, and nothing marked, while
        another worker holds it; with ``wait``, only when it was so all the time.
        """
        answer = await self._unless_lost(
            self.agent.client.files.MarkFiles,
            v1.MarkFilesRequest(
                worker_id=self.agent.worker_id,
                paths=paths,
                task_id=self.id,
                claim_revision=self.claim_revision,
                reason=reason,
                wait=proto_duration(wait),
            ),
            timeout=_ANSWER_SECONDS + wait.total_seconds() if wait else None,
        )
        return answer.conflicts if answer else ()

    async def attach(
        self, type: str, content: bytes | str | Path = b"", *, name: str = "", mime_type: str = ""
    ) -> v1.Attachment | None:
        """Keep something with the task; text is stored as UTF-8. None when the claim was lost.

        A file, and whatever is larger than 1 MiB, is streamed, up to 100 MB; a file gives its own
        name and MIME type unless told otherwise. Raises OSError where it cannot be read.
        """
        if isinstance(content, str):
            mime_type = mime_type or "text/plain"
        data = bytes(content, "utf-8") if isinstance(content, str) else content
        if isinstance(data, Path) or len(data) > _INLINE:
            return await self._upload(type, data, name, mime_type)
        answer = await self._unless_lost(
            self.agent.client.attachments.Attach,
            v1.AttachRequest(
                worker_id=self.agent.worker_id,
                task_id=self.id,
                claim_revision=self.claim_revision,
                type=type,
                name=name,
                mime_type=mime_type,
                content=data,
            ),
        )
        return answer.attachment if answer else None

    async def _upload(
        self, type: str, content: bytes | Path, name: str, mime_type: str
    ) -> v1.Attachment | None:
        if isinstance(content, Path):
            name = name or content.name
            mime_type = mime_type or mimetypes.guess_type(content.name)[0] or ""
        request_id = new_request_id()

        async def attempt() -> v1.Attachment:
            return await self.agent.client.upload(
                self.id,
                type,
                content,
                name=name,
                mime_type=mime_type,
                worker_id=self.agent.worker_id,
                claim_revision=self.claim_revision,
                request_id=request_id,
            )

        if self.lost:
            return None
        try:
            return await self.agent.insist(attempt)
        except TaskloomError as error:
            if not is_loss(error):
                raise
            self.lost_event.set()
            return None

    async def signal(self, reason: str = "", *, breakthrough: bool = False) -> bool:
        """Tell of progress, which makes the task hotter. False when the claim was lost."""
        type = v1.SIGNAL_TYPE_BREAKTHROUGH if breakthrough else v1.SIGNAL_TYPE_PROGRESS
        answer = await self._unless_lost(
            self.agent.client.tasks.SignalTask,
            v1.SignalTaskRequest(
                worker_id=self.agent.worker_id,
                task_id=self.id,
                claim_revision=self.claim_revision,
                type=type,
                reason=reason,
            ),
        )
        if answer is None:
            return False
        self.task = answer.task
        return True

    async def think(self, thought: str) -> bool:
        """Say what the work is at, for others to see; empty: nothing. A sign of life.

        It stands on the worker and on the task, is told in the stream, and has 4,000 characters
        at most. False when the claim was lost.
        """
        answer = await self._unless_lost(
            self.agent.client.workers.SetThought,
            v1.SetThoughtRequest(
                worker_id=self.agent.worker_id,
                thought=thought,
                task_id=self.id,
                claim_revision=self.claim_revision,
            ),
        )
        return answer is not None

    async def log_metrics(
        self,
        *,
        tokens_in: int = 0,
        tokens_out: int = 0,
        tokens_cached: int = 0,
        tokens_thinking: int = 0,
        tokens_image: int = 0,
        tokens_audio: int = 0,
        metric_6: int = 0,
        metric_7: int = 0,
        cost_usd: float = 0.0,
    ) -> v1.Metrics | None:
        """Add to what the task consumed; may come after it ended. None when the claim was lost."""
        answer = await self._unless_lost(
            self.agent.client.tasks.LogMetrics,
            v1.LogMetricsRequest(
                worker_id=self.agent.worker_id,
                task_id=self.id,
                # The claim went with the task's end, and costs may be reported without one.
                claim_revision=0 if self.ended else self.claim_revision,
                metrics=v1.Metrics(
                    tokens_in=tokens_in,
                    tokens_out=tokens_out,
                    tokens_cached=tokens_cached,
                    tokens_thinking=tokens_thinking,
                    tokens_image=tokens_image,
                    tokens_audio=tokens_audio,
                    metric_6=metric_6,
                    metric_7=metric_7,
                    cost_usd=cost_usd,
                ),
            ),
        )
        return answer.metrics if answer else None

    async def update(
        self,
        *,
        status: str | None = None,
        phase: str | None = None,
        title: str | None = None,
        description: str | None = None,
        priority: int | None = None,
        points: int | None = None,
        reason: str = "",
        force: bool = False,
    ) -> bool:
        """Change what is given, and only that. False when the claim was lost.

        A parked ``status``, such as "waiting" in the workflow swarm, puts the task aside: it stays
        the worker's, without a lease, does not count among its ``max_claims``, and is not
        completed by coming back for the next one. Whoever parked it goes on by "working". When
        somebody else moves it on, it is among the tasks of the loop again. An agent that leaves
        gives it back like all that it holds.
        """
        request = v1.UpdateTaskRequest(
            task_id=self.id,
            worker_id=self.agent.worker_id,
            claim_revision=self.claim_revision,
            status=status,
            phase=phase,
            title=title,
            description=description,
            priority=priority,
            points=points,
            reason=reason,
            force=force,
        )
        if self.parked:
            self.agent.keep(self)  # from now on, so that nobody else takes it up as it goes on
        try:
            answer = await self._unless_lost(self.agent.client.tasks.UpdateTask, request)
            if answer is None:
                return False
            self.task = answer.task
            self.hear(answer.prompts)
            if status is not None and self.task.claim_revision != self.claim_revision:
                self.ended = True
            return True
        finally:
            if self.ended or self.parked:
                self.agent.let_go(self)

    async def _end(self, ending: Ending, *, go_on: bool = False) -> bool:
        if self.ended:
            raise RuntimeError(f"task {self.id} was ended already")
        self.ending = True
        done = True
        try:
            ended = await self.agent.end(ending, go_on=go_on)
            self.task = ended.task
            self.hear(ended.prompts)
        except TaskloomError as error:
            if not is_loss(error):
                raise
            self.lost_event.set()
            done = False
        finally:
            self.ending = False
        self.ended = True
        self.agent.let_go(self)
        return done

    async def _unless_lost(
        self,
        method: aio.UnaryUnaryMultiCallable[_Request, _Response],
        request: _Request,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - it is the call's, not this coroutine's
    ) -> _Response | None:
        if self.lost:
            return None
        try:
            return await self.agent.call(method, request, timeout=timeout)
        except TaskloomError as error:
            if not is_loss(error):
                raise
            self.lost_event.set()
            return None


def is_parked(task: v1.Task) -> bool:
    """True of a task that is held and whose lease stands still."""
    return task.claim_revision != 0 and not task.HasField("lease_expire_time")


def is_loss(error: TaskloomError) -> bool:
    """True when the error says that the task is no longer this claim's, or is no longer at all."""
    return isinstance(error, ClaimLost) or error.reason in {"TASK_NOT_FOUND", "TASK_DELETED"}
