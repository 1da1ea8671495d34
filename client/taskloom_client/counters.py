"""What an agent did so far, counted so that ways of pulling can be compared."""

from dataclasses import dataclass


@dataclass
class Counters:
    """What an agent did so far. Times are in seconds.

    What a server does by itself is not counted: messages that a stream brings, keepalives, and the
    repetitions that gRPC makes within a call.
    """

    calls: int = 0
    """Calls tried, repetitions included, and beside them what goes over streams: every message
    sent on a Work stream, its start and the grants of credit among them, and every opening of a
    watch. A completion that brings credit along is one message."""
    claims_tried: int = 0
    """Tasks it tried to take: one a ClaimTask, and one a task that ClaimNextTask or a Work stream
    gave. Taking up what is held already counts not."""
    claims_granted: int = 0
    claims_refused: int = 0
    """Claims refused because the task was no longer to be had: others were quicker."""
    empty_polls: int = 0
    """Looks for work that found none: an answer without a task, an empty list, a stream that had
    nothing to give."""
    tasks_completed: int = 0
    tasks_failed: int = 0
    seconds_idle: float = 0.0
    """Looking for work and resting; from one task's end to the next one's start."""
    seconds_working: float = 0.0
    """With a task in hand."""
