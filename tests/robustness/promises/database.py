"""The file: whole, and of one mind with the history and with itself."""

from collections import Counter, defaultdict
from typing import Any

from taskloom import v1

from tests.robustness.history import Promise, Step
from tests.robustness.model import Model
from tests.robustness.truth import query

_DEPENDENCY_TYPES = {
    "blocks": v1.DEPENDENCY_TYPE_BLOCKS,
    "follows": v1.DEPENDENCY_TYPE_FOLLOWS,
    "contains": v1.DEPENDENCY_TYPE_CONTAINS,
    "duplicate": v1.DEPENDENCY_TYPE_DUPLICATE,
    "see-also": v1.DEPENDENCY_TYPE_SEE_ALSO,
    "relates-to": v1.DEPENDENCY_TYPE_RELATES_TO,
}
# Refusals of a claim that say nothing of an attempt: of a task that one holds, or of none at all.
_UNCOUNTED = ("TASK_DELETED", "BUDGET_EXCEEDED", "FILE_LOCKED")


class Database(Promise):
    """The tables, read once no server has them open, agree with what history tells."""

    name = "database"

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._granted: Counter[str] = Counter()  # claims of either mode, by worker

    def after(self, step: Step, model: Model) -> None:  # noqa: D102
        for event in step.events:
            if event.type == v1.EVENT_TYPE_ADVISORY_CLAIM_MADE or (
                event.type == v1.EVENT_TYPE_TASK_CLAIMED and not step.is_take_over(event)
            ):
                self._granted[event.worker_id] += 1

    def finish(self, model: Model) -> None:  # noqa: D102
        if self.history.truth.db is None:
            return
        self._judge_integrity()
        self._judge_events()
        self._judge_tasks(model)
        self._judge_counts(model)
        self._judge_sequence()
        self._judge_workers(model)
        self._judge_the_rest(model)
        self._judge_ids()
        self._judge_answers()

    def _judge_ids(self) -> None:
        """No row, but those of what has happened, names a task by an id that none has."""
        columns = self._query(
            "SELECT t.name, c.name FROM sqlite_schema t, pragma_table_info(t.name) c "
            "WHERE t.type = 'table' AND c.name IN ('task_id', 'from_task_id', 'to_task_id', "
            "'parent_id') AND t.name NOT IN ('events', 'requests', 'renames')"
        )
        for table, column in columns:
            rows = self._query(
                f"SELECT DISTINCT {column} FROM {table} WHERE {column} IS NOT NULL AND {column} "
                "NOT IN (SELECT id FROM tasks) LIMIT 3"
            )
            if rows:
                ids = [row[0] for row in rows]
                self.violated(f"{table}.{column} names {ids}, which are no tasks", tasks=ids)

    def _query(self, sql: str) -> list[Any]:
        assert self.history.truth.db is not None
        return query(self.history.truth.db, sql)

    def _judge_integrity(self) -> None:
        found = self._query("PRAGMA integrity_check")
        if found != [("ok",)]:
            self.violated(f"the file is damaged: {found[:3]}")

    def _judge_events(self) -> None:
        """The table of events holds what the watch from revision 1 told, event by event."""
        rows = self._query(
            "SELECT revision, type, ifnull(task_id, ''), ifnull(worker_id, ''), "
            "ifnull(reason, ''), time FROM events ORDER BY revision, ordinal"
        )
        told = [
            (
                revision,
                int(event.type),
                event.task_id,
                event.worker_id,
                event.reason,
                event.time.ToMilliseconds(),
            )
            for revision, contents in self.history.truth.messages
            for event in v1.WatchTasksResponse.FromString(contents).events.events
        ]
        if rows != told:
            place = next(
                (n for n, (a, b) in enumerate(zip(rows, told, strict=False)) if a != b),
                min(len(rows), len(told)),
            )
            self.violated(
                f"the table of events differs from the watch from revision 1: "
                f"{rows[place : place + 1]} / {told[place : place + 1]}; {len(rows)} rows, "
                f"{len(told)} events told"
            )

    def _judge_tasks(self, model: Model) -> None:
        rows = self._query(
            "SELECT id, status, ifnull(worker_id, ''), ifnull(claim_revision, 0), title, priority, "
            "ifnull(phase, ''), ifnull(parent_id, ''), attempts, max_attempts, revision, metric_0, "
            "deleted_at IS NOT NULL, ready_as IS NOT NULL FROM tasks"
        )
        if len(rows) != len(model.tasks):
            self.violated(f"there are {len(rows)} tasks, and {len(model.tasks)} in the history")
        for row in rows:
            task = model.tasks.get(row[0])
            if task is None:
                self.violated(f"{row[0]} is in no event", tasks=[row[0]])
                continue
            one = task.image
            expected: tuple[Any, ...] = (
                one.id,
                one.status,
                one.worker_id,
                one.claim_revision,
                one.title,
                one.priority,
                one.phase,
                one.parent_id,
                one.attempts,
                one.max_attempts,
                one.revision,
                one.metrics.tokens_in,
                int(task.deleted),
                int(one.ready),
            )
            if task.deleted:  # what hangs on a deleted task changes without an event
                row, expected = row[:7] + row[8:10], expected[:7] + expected[8:10]  # noqa: PLW2901
            if row != expected:
                self.violated(
                    f"the row of {one.id} is {row}, the last event shows {expected}",
                    tasks=[one.id],
                )

    def _judge_counts(self, model: Model) -> None:
        """unmet_blockers and open_children are what the tables of tasks and dependencies say."""
        blocking = ", ".join(
            f"('{name}', '{status}')"
            for name, workflow in model.rules.workflows.items()
            for status in sorted(workflow.blocking)
        )
        sql = (
            "SELECT id, unmet_blockers, (SELECT count(DISTINCT d.from_task_id) FROM dependencies d "
            "JOIN tasks b ON b.id = d.from_task_id WHERE d.to_task_id = t.id AND d.dep_type IN "
            "('blocks', 'follows') AND b.deleted_at IS NULL AND (b.workflow, b.status) IN "
            f"(VALUES {blocking})), open_children, (SELECT count(*) FROM tasks c WHERE "
            "c.parent_id = t.id AND c.deleted_at IS NULL AND (c.workflow, c.status) IN "
            f"(VALUES {blocking})) FROM tasks t WHERE deleted_at IS NULL"
        )
        for task_id, unmet, blockers, open_, children in self._query(sql):
            if (unmet, open_) != (blockers, children):
                self.violated(
                    f"{task_id} counts {unmet} unmet blockers and {open_} open children; there are "
                    f"{blockers} and {children}",
                    tasks=[task_id],
                )

    def _judge_sequence(self) -> None:
        """The history of each task ends with the status it has, in one row that is open."""
        rows = self._query(
            "SELECT t.id, t.status, (SELECT s.status FROM task_sequence s WHERE s.task_id = t.id "
            "AND s.status IS NOT NULL ORDER BY s.id DESC LIMIT 1), (SELECT count(*) FROM "
            "task_sequence s WHERE s.task_id = t.id AND s.end_timestamp IS NULL) FROM tasks t"
        )
        for task_id, status, last, still_open in rows:
            if status != last or still_open != 1:
                self.violated(
                    f"{task_id} is {status}; its history ends with {last}, {still_open} rows open",
                    tasks=[task_id],
                )

    def _judge_workers(self, model: Model) -> None:
        """The counters of claims are those of the history, and of the calls that were refused."""
        granted_to = self._granted
        refused: defaultdict[str, int] = defaultdict(int)
        tried: defaultdict[str, int] = defaultdict(int)
        for call in self.history.calls:
            if call.verb == "ClaimTask":
                tried[call.worker_id] += len(call.attempts)
                refused[call.worker_id] += sum(
                    attempt.code == "FAILED_PRECONDITION" and attempt.reason not in _UNCOUNTED
                    for attempt in call.attempts
                )
        rows = self._query(
            "SELECT id, claim_attempts, claims_granted, claims_lost, disconnected_at IS NULL "
            "FROM workers"
        )
        for worker_id, attempts, granted, lost, connected in rows:
            worker = model.worker(worker_id)
            problem = ""
            if granted != granted_to[worker_id]:
                problem = f"was granted {granted_to[worker_id]} claims, and {granted} are counted"
            elif not (
                granted + refused[worker_id] <= attempts <= granted + tried[worker_id]
                and lost <= attempts - granted
            ):
                problem = (
                    f"has {attempts} attempts counted, {granted} of them granted and {lost} lost; "
                    f"{refused[worker_id]} of its {tried[worker_id]} ClaimTask were refused"
                )
            elif bool(connected) != worker.connected:
                problem = "is connected, or not, against the history"
            if problem:
                self.violated(f"{worker_id} {problem}", workers=[worker_id])

    def _judge_the_rest(self, model: Model) -> None:
        """Dependencies, marks, attachments, and the row of the whole."""
        dependencies = {
            (a, b, int(_DEPENDENCY_TYPES[type_]))
            for a, b, type_ in self._query(
                "SELECT from_task_id, to_task_id, dep_type FROM dependencies"
            )
        }
        tables: dict[str, tuple[Any, Any]] = {
            "dependencies": (dependencies, model.dependencies),
            "file_locks": (
                set(
                    self._query("SELECT file_path, worker_id, ifnull(task_id, '') FROM file_locks")
                ),
                {(*key, mark.task_id) for key, mark in model.marks.items()},
            ),
            "attachments": (
                set(
                    self._query("SELECT task_id, attachment_type, sequence, name FROM attachments")
                ),
                {(*key, one.name) for key, one in model.attachments.items()},
            ),
            "advisory_claims": (
                set(self._query("SELECT worker_id, task_id FROM advisory_claims")),
                {(one, task) for one, w in model.workers.items() for task in w.shares},
            ),
            "pauses": (set(self._query("SELECT task_id FROM pauses")), _ones(model.paused_tasks)),
            "system": (
                self._query("SELECT revision, paused_at IS NOT NULL FROM system"),
                [(self.history.truth.revision, int(model.paused))],
            ),
        }
        for table, (rows, expected) in tables.items():
            if rows != expected:
                more = list(rows)[:2] if isinstance(rows, list) else sorted(rows - expected)[:2]
                less = list(expected)[:2] if isinstance(rows, list) else sorted(expected - rows)[:2]
                self.violated(f"{table}: the file has {more}, the history {less}")

    def _judge_answers(self) -> None:
        """Every answer to a call with a request_id is remembered, in the bytes that were sent."""
        kept = dict(self._query("SELECT id, response FROM requests"))
        for call in self.history.calls:
            if not getattr(call.ask, "request_id", "") or not call.remembered:
                continue
            self.judged += 1
            first = call.remembered[0][0].answer
            if kept.get(call.ask.request_id) != first:
                self.violated(
                    f"the answer to {call.verb} {call.tag} is not remembered as it was given",
                    revision=call.answer.revision,
                    workers=[call.worker_id],
                    call=call,
                )


def _ones(names: set[str]) -> set[tuple[str]]:
    """As rows of one column."""
    return {(name,) for name in names}
