"""The table of actions, and how an agent chooses from it."""

from collections.abc import Awaitable, Callable

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from tests.robustness.agents import Agent
from tests.robustness.recording import now_ms

Action = Callable[[Agent], Awaitable[None]]
TAGS = ("red", "green", "blue")
BASE = "base"  # a task that stays open, to work below
DRY = "dry-"  # with this begin the ids of tasks in snapshots that are imported on trial
OVERLAYS = ("careful", "tdd")

_LOCKS = ("lock:git", "lock:gpu", "lock:port", "lock:release")
_SCARCE_EVERY = 1_500  # calls
_MAIN: dict[Action, float] = {}  # what an agent does in its main line of work, how often
_SIDE: dict[Action, float] = {}  # what it does meanwhile
_FOR_HOLDERS: set[Action] = set()
_FEEDS: list[Action] = []


def action(weight: float, *, side: float = 0.0) -> Callable[[Action], Action]:
    """Enter an action: ``weight`` is how often it is the next one; 0: never there."""

    def enter(entered: Action) -> Action:
        if weight:
            _MAIN[entered] = weight
        if side:
            _SIDE[entered] = side
        return entered

    return enter


def for_holders(entered: Action) -> Action:
    """Mark an action that is mostly refused to who holds nothing."""
    _FOR_HOLDERS.add(entered)
    return entered


def feeds(entered: Action) -> Action:
    """Mark an action that makes work, to be done where there is too little of it."""
    _FEEDS.append(entered)
    return entered


def main_action(agent: Agent, instead: Action) -> Action:
    """The next thing that an agent does.

    ``instead`` of what needs a claim, where it has none, and of making work, where none is to be
    made just now.
    """
    scarce = _is_scarce(agent)
    if not scarce and agent.board.hunger > agent.rng.randrange(20):
        return agent.rng.choice(_FEEDS)
    chosen = _choice(agent, _MAIN)
    if scarce and chosen in _FEEDS:
        return instead
    if chosen in _FOR_HOLDERS and not agent.held and agent.rng.random() < 0.8:
        return instead
    return chosen


def side_action(agent: Agent) -> Action:
    """The next thing that it does beside."""
    scarce = _is_scarce(agent)
    if not scarce and agent.board.hunger > agent.rng.randrange(20):
        return agent.rng.choice(_FEEDS)
    while True:
        chosen = _choice(agent, _SIDE)
        if not scarce or chosen not in _FEEDS:
            return chosen


def _is_scarce(agent: Agent) -> bool:
    """Whether it is one of the times in which nobody makes work, so that many wait for some."""
    return agent.board.calls % _SCARCE_EVERY > _SCARCE_EVERY * 0.7


def _choice(agent: Agent, table: dict[Action, float]) -> Action:
    return agent.rng.choices(list(table), list(table.values()))[0]


def some_paths(agent: Agent) -> list[str]:
    """Files, and locks sometimes, of which there are few."""
    rng = agent.rng
    paths = [f"src/{rng.randrange(40)}.py" for _ in range(rng.randrange(3))]
    if not paths or rng.random() < 0.3:
        paths += rng.sample(_LOCKS, rng.choice((1, 1, 2)))
    return paths


def seconds(value: float) -> Duration:
    """So long."""
    duration = Duration()
    duration.FromMilliseconds(round(value * 1000))
    return duration


def from_now(value: float) -> Timestamp:
    """So many seconds from now."""
    time = Timestamp()
    time.FromMilliseconds(round(now_ms() + value * 1000))
    return time
