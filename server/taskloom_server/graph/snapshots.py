"""What a snapshot is, of which tables, and what an import may make of it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple, Protocol, TypeVar

from taskloom_server.graph.errors import InvalidField
from taskloom_server.graph.tasks import Attachment, Dependency, Task, Transition

TASKS = "tasks"
DEPENDENCIES = "dependencies"
ATTACHMENTS = "attachments"
HISTORY = "task_sequence"
# The tables of tags, and the column of a task that says the same.
TAG_TABLES = {
    "task_tags": "tags",
    "task_needed_tags": "needed_tags",
    "task_wanted_tags": "wanted_tags",
}
# In the order in which a file has them.
TABLES = (TASKS, DEPENDENCIES, ATTACHMENTS, *TAG_TABLES, HISTORY)
# Contents of attachments that are files of the media folder, where they are asked for.
MEDIA = "media"
# Columns of a task that a snapshot does not have, since they follow from the others or are of
# the life that ends with it. Whatever else a task has is in every snapshot.
NOT_IN_SNAPSHOTS = frozenset(
    {
        "advisory_claims",  # end with it
        "number",  # the order of the rows
        "parent_id",  # a dependency
        *(f"metric_{n}" for n in range(8)),  # one list, `metrics`
        "revision",
        "claim_revision",
        "lease_since",
        "lease_until",  # while a budget is spent
        "budgets",  # how many are over it
        "lapsed_worker_id",
        "lapsed_claim_revision",
        "unmet_blockers",
        "open_children",
        "claimable",
        "paused",
        "requirement_id",
        "sequence_id",
        "heat",
        "lease_expires_at",
    }
)


class Mode(Enum):
    """What an import makes of a snapshot."""

    TEMPLATE = "template"  # work to be done
    RESTORE = "restore"  # the graph as it was, into an empty one
    MERGE = "merge"  # as it was, beside what is there
    REPLACE = "replace"  # as it was, in place of what is there


class OnClash(Enum):
    """What a merge makes of a task that is there already."""

    FAIL = "fail"
    SKIP = "skip"
    OVERWRITE = "overwrite"


Row_co = TypeVar("Row_co", covariant=True)


class Rows(Protocol[Row_co]):
    """Rows that need not be in memory, and can be read as often as one likes."""

    def __len__(self) -> int:
        """How many there are."""

    def __iter__(self) -> Iterator[Row_co]:
        """One after the other."""

    def batches(self) -> Iterator[Sequence[Row_co]]:
        """Some at a time."""


class Outline(NamedTuple):
    """What an import must know of all tasks at once; an empty workflow or status: any."""

    id: str
    workflow: str
    status: str
    deleted: bool


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole graph, or the tables of it that were chosen.

    Tasks stand in the order of their creation, and ``outlines`` in the same.
    """

    tasks: Rows[Task]
    outlines: Sequence[Outline]
    dependencies: Sequence[Dependency]
    attachments: Rows[Attachment]
    transitions: Rows[Transition]
    tables: frozenset[str] = field(default_factory=lambda: frozenset(TABLES))


def chosen_tables(
    field_name: str, names: Iterable[str], *, without_history: bool
) -> frozenset[str] | None:
    """The tables that are meant; None: all there are, history included.

    Raises InvalidField for one that is none, and for those that do not go together.
    """
    chosen = frozenset(names)
    if unknown := sorted(chosen.difference(TABLES)):
        raise InvalidField(
            field_name, f"there is no table {unknown[0]!r}; there are {', '.join(TABLES)}"
        )
    if not chosen:
        return frozenset(TABLES) - {HISTORY} if without_history else None
    if TASKS not in chosen:
        raise InvalidField(
            field_name,
            f"{', '.join(sorted(chosen))} goes with tasks, which is not among them",
        )
    if without_history and HISTORY in chosen:
        raise InvalidField(field_name, f"has {HISTORY}, which is to be left out by without_history")
    return chosen
