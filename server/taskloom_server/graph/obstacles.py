"""Obstacles: the reasons why a task cannot be taken, as a person would want them told."""

from dataclasses import dataclass
from enum import IntEnum


class ObstacleType(IntEnum):
    """What kind of reason. Numbers are those of the proto."""

    DELETED = 1
    ENDED = 2
    CLAIMED = 3
    STATUS = 4
    BLOCKER = 5
    CHILD = 6
    NOT_BEFORE = 7
    PAUSED = 8
    SUBTREE_PAUSED = 9
    TAGS = 10
    NOT_CONNECTED = 11
    CLAIM_LIMIT = 12
    COOLING_DOWN = 13
    BUDGET = 14
    WIP_LIMIT = 15
    ROLE = 16


@dataclass(frozen=True, slots=True)
class Obstacle:
    """One reason, and what would have to happen; ``until``: when it passes by itself, Unix ms."""

    type: ObstacleType
    message: str
    remedy: str
    task_ids: tuple[str, ...] = ()
    worker_ids: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    until: int | None = None
