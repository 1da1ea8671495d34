"""Lists of tasks: any filters, one of five orders, a page at a time."""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from itertools import islice
from typing import Any

import apsw
from peewee import Asc, Desc, fn

from taskloom_server.graph.tasks import Task
from taskloom_server.store.statements import Statement, arg, by_no_index
from taskloom_server.store.subtrees import subtree
from taskloom_server.store.tables import Tasks, TaskTags
from taskloom_server.store.tasks import select_tasks, task_of

_ALL = -1


class Order(Enum):
    """The order of a list."""

    PRIORITY = "priority"
    TEMPERATURE = "temperature"
    CREATE_TIME = "create_time"
    UPDATE_TIME = "update_time"
    ID = "id"


@dataclass(frozen=True, slots=True)
class Filters:
    """Which tasks to list; what is None or empty lets all pass."""

    statuses: tuple[str, ...] = ()
    ready: bool | None = None
    blocked: bool | None = None
    claimed: bool | None = None
    owner: str = ""
    parent_id: str = ""
    recursive: bool = False
    tags_any: tuple[str, ...] = ()
    tags_all: tuple[str, ...] = ()
    phase: str = ""
    requirement_ids: tuple[int, ...] | None = None
    heat_from: float | None = None
    heat_below: float | None = None
    include_deleted: bool = False

    @property
    def goes_by_status(self) -> bool:
        """Whether nothing narrows the list as much as its statuses may."""
        otherwise = self.ready or self.claimed or self.parent_id or self.tags_any or self.tags_all
        return bool(self.statuses) and not otherwise and not self.include_deleted

    @property
    def narrows(self) -> bool:
        """Whether so few may pass that they are better found otherwise than in their order."""
        by_heat = self.heat_from is not None or self.heat_below is not None
        few = self.owner or self.phase or self.claimed or by_heat
        if few and not self.ready and not self.goes_by_status:
            return True
        return bool(self.parent_id or self.tags_any or self.tags_all)


# Each order's columns, the last one unique. Those with True go downward.
_ORDERS: dict[Order, tuple[tuple[Any, bool], ...]] = {
    Order.PRIORITY: ((Tasks.priority, True), (Tasks.number, False)),
    Order.TEMPERATURE: ((Tasks.heat, True), (Tasks.number, False)),
    Order.CREATE_TIME: ((Tasks.number, False),),
    Order.UPDATE_TIME: ((Tasks.updated_at, True), (Tasks.number, True)),
    Order.ID: ((Tasks.id, False),),
}
_KEYS = {
    Order.PRIORITY: ("priority", "number"),
    Order.TEMPERATURE: ("heat", "number"),
    Order.CREATE_TIME: ("number",),
    Order.UPDATE_TIME: ("updated_at", "number"),
    Order.ID: ("id",),
}

PLACES: dict[Order, tuple[type, ...]] = {  # the types of a place in each order
    Order.PRIORITY: (int, int),
    Order.TEMPERATURE: (float, int),
    Order.CREATE_TIME: (int,),
    Order.UPDATE_TIME: (int, int),
    Order.ID: (str,),
}


def key_of(task: Task, order: Order) -> tuple[Any, ...]:
    """A task's place in an order, from which the next page goes on."""
    return tuple(getattr(task, column) for column in _KEYS[order])


def _after(columns: Sequence[tuple[Any, bool]]) -> Any:
    """The condition that a task comes after the place in the arguments ``after0`` …"""
    first, downward = columns[0]
    beyond = first < arg("after0") if downward else first > arg("after0")
    return beyond if len(columns) == 1 else beyond | _beside(columns)


def _beside(columns: Sequence[tuple[Any, bool]]) -> Any:
    """The condition that it does so only by the second column, being equal in the first."""
    (first, _), (second, downward) = columns
    place = arg("after1")
    return (first == arg("after0")) & (second < place if downward else second > place)


# The workflow after this one that has tasks with the status.
_NEXT_WORKFLOW = Statement(
    Tasks.select(Tasks.workflow)
    .where(
        Tasks.deleted_at.is_null()
        & (Tasks.status == arg("status"))
        & (Tasks.workflow > arg("workflow"))
    )
    .order_by(Tasks.workflow)
    .limit(1),
    "status",
    "workflow",
)


@dataclass(frozen=True, slots=True)
class _Shape:
    """What of a list decides on its SQL; the values do not."""

    order: Order
    place: int  # of how many columns is the place that it goes on from; 0: there is none
    narrow: bool  # few may pass: no index of an order is to be used
    state: bool  # one status of one workflow, instead of all statuses
    statuses: int
    ready: bool | None
    blocked: bool | None
    claimed: bool | None
    owner: bool
    parent: bool
    recursive: bool
    tags_any: int
    tags_all: int
    phase: bool
    requirements: int | None
    heat_from: bool
    heat_below: bool
    include_deleted: bool


def _slots(name: str, count: int) -> list[str]:
    return [f"{name}{n}" for n in range(count)]


@lru_cache(maxsize=256)
def _compile(shape: _Shape) -> Statement:
    """The statement of a shape. Built once: building took ten times as long as running."""
    query = select_tasks()
    names: list[str] = []

    def where(condition: Any, *slots: str) -> None:
        nonlocal query
        query = query.where(condition)
        names.extend(slots)

    def any_of(column: Any, name: str, count: int) -> None:
        slots = _slots(name, count)
        where(column.in_([arg(slot) for slot in slots]), *slots)

    if not shape.include_deleted:
        # Else SQLite would go through the index of statuses, and look up each task on its own.
        by_status = shape.state or shape.statuses
        where((Tasks.deleted_at if by_status else by_no_index(Tasks.deleted_at)).is_null())
    if shape.state:
        state = (Tasks.status == arg("status")) & (Tasks.workflow == arg("workflow"))
        where(state, "status", "workflow")
    elif shape.statuses:
        # Those that are ready are in order, those that are claimed are few.
        otherwise = shape.ready or shape.claimed
        any_of(by_no_index(Tasks.status) if otherwise else Tasks.status, "status", shape.statuses)
    if shape.ready is not None:
        where(Tasks.ready_as.is_null(not shape.ready))
    if shape.blocked is not None:
        where(Tasks.unmet_blockers > 0 if shape.blocked else Tasks.unmet_blockers == 0)
    if shape.claimed is not None:
        where(Tasks.claim_revision.is_null(not shape.claimed))
        if shape.claimed:
            where(Tasks.worker_id >= "")  # which it has, and by which it is found
    if shape.owner:
        where(Tasks.worker_id == arg("owner"), "owner")
    if shape.parent and not shape.recursive:
        where(Tasks.parent_id == arg("parent"), "parent")
    if shape.phase:
        where(Tasks.phase == arg("phase"), "phase")
    if shape.requirements is not None:
        any_of(Tasks.requirement_id, "requirement", shape.requirements)
    if shape.heat_from:
        where(Tasks.heat >= arg("heat_from"), "heat_from")
    if shape.heat_below:
        where(Tasks.heat < arg("heat_below"), "heat_below")
    if shape.tags_any:
        slots = _slots("any", shape.tags_any)
        tagged = TaskTags.select(TaskTags.task_id).where(TaskTags.tag.in_([arg(s) for s in slots]))
        where(Tasks.id.in_(tagged), *slots)
    if shape.tags_all:
        slots = _slots("all", shape.tags_all)
        tagged = (
            TaskTags.select(TaskTags.task_id)
            .where(TaskTags.tag.in_([arg(s) for s in slots]))
            .group_by(TaskTags.task_id)
            .having(fn.COUNT(TaskTags.tag) == shape.tags_all)
        )
        where(Tasks.id.in_(tagged), *slots)
    columns: Sequence[tuple[Any, bool]] = _ORDERS[shape.order]
    hidden = [(by_no_index(column), downward) for column, downward in columns]
    if shape.place:
        if shape.narrow:
            condition = _after(hidden)
        elif shape.order is not Order.PRIORITY:
            condition = _after(columns)
        else:  # a range of an index
            condition = _after(columns[:1]) if shape.place == 1 else _beside(columns)
        where(condition, *_slots("after", shape.place))
    if shape.parent and shape.recursive:
        below: Any = subtree(arg("parent"), also_deleted=shape.include_deleted)
        where(Tasks.id.in_(below.select_from(below.c.id)), "parent")
    if shape.narrow and shape.order is Order.PRIORITY:
        columns = hidden  # else it would go through all there are, to have them in order
    query = query.order_by(
        *(Desc(column) if downward else Asc(column) for column, downward in columns)
    ).limit(arg("limit"))
    return Statement(query, *names, "limit")


class TaskListing:
    """Lists of tasks on one connection."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def page(
        self, filters: Filters, order: Order, after: Sequence[Any] | None, limit: int
    ) -> list[Task]:
        """The tasks that pass, from the place ``after`` on."""
        places: list[Sequence[Any]] = [after or ()]
        if after and order is Order.PRIORITY and not filters.narrows:
            # In two parts, each a range: what is equal in the first column, and what is beyond.
            places.append(after[:1])
        found: list[Task] = []
        for place in places:
            if len(found) < limit:
                found += self._from(filters, order, place, limit - len(found))
        return found

    def each(self, filters: Filters) -> Iterator[Task]:
        """All tasks that pass, oldest first, as they come."""
        return self._select(filters, Order.CREATE_TIME, (), _ALL)

    def _from(
        self, filters: Filters, order: Order, place: Sequence[Any], limit: int
    ) -> Iterable[Task]:
        """The first after a place; those with a status are in order for each of its workflows."""
        if order is not Order.PRIORITY or not filters.goes_by_status:
            return self._select(filters, order, place, limit)
        states = [
            self._select(filters, order, place, limit, state)
            for state in self._states(filters.statuses)
        ]
        return islice(heapq.merge(*states, key=lambda one: (-one.priority, one.number)), limit)

    def _states(self, statuses: Iterable[str]) -> Iterator[tuple[str, str]]:
        """Each of these statuses with each workflow that has tasks in it."""
        for status in dict.fromkeys(statuses):
            workflow = ""
            while row := _NEXT_WORKFLOW.one(self._connection, status, workflow):
                workflow = row[0]
                yield status, workflow

    def _select(
        self,
        filters: Filters,
        order: Order,
        place: Sequence[Any],
        limit: int,
        state: tuple[str, str] | None = None,
    ) -> Iterator[Task]:
        shape = _Shape(
            order=order,
            place=len(place),
            narrow=filters.narrows,
            state=state is not None,
            statuses=len(filters.statuses),
            ready=filters.ready,
            blocked=filters.blocked,
            claimed=filters.claimed,
            owner=bool(filters.owner),
            parent=bool(filters.parent_id),
            recursive=filters.recursive,
            tags_any=len(filters.tags_any),
            tags_all=len(filters.tags_all),
            phase=bool(filters.phase),
            requirements=(
                None if filters.requirement_ids is None else len(filters.requirement_ids)
            ),
            heat_from=filters.heat_from is not None,
            heat_below=filters.heat_below is not None,
            include_deleted=filters.include_deleted,
        )
        # In the order in which _compile names them.
        values: list[Any] = [*(state or filters.statuses)]
        if filters.owner:
            values.append(filters.owner)
        if filters.parent_id and not filters.recursive:
            values.append(filters.parent_id)
        if filters.phase:
            values.append(filters.phase)
        values += filters.requirement_ids or ()
        values += (h for h in (filters.heat_from, filters.heat_below) if h is not None)
        values += filters.tags_any
        values += filters.tags_all
        values += place
        if filters.parent_id and filters.recursive:
            values.append(filters.parent_id)
        return map(task_of, _compile(shape).each(self._connection, *values, limit))
