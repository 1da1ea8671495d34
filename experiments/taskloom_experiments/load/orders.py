"""What load generators are told to do, and what they tell of it; as lines of JSON between them."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True, slots=True)
class Station:
    """One generator's place: where it calls, and as which workers.

    Its workers are ``worker-K`` from ``first`` on, shared out among so many connections. They may
    do any task that asks for one of ``tags`` only. ``tasks``: how many ``task-N`` there are to be
    read or changed; ``ready``: the share of them that is ready, as in ``Graph``.
    """

    target: str
    bare: str
    workers: int
    connections: int
    first: int = 0
    tags: tuple[str, ...] = ()
    tasks: int = 0
    ready: float = 1.0

    def to_json(self) -> str:
        """As the command line carries it."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> "Station":
        """Read what ``to_json`` wrote."""
        given = json.loads(text)
        return Station(**given | {"tags": tuple(given["tags"])})


@dataclass(frozen=True, slots=True)
class Order:
    """One period of load: what is done over and over for so many seconds.

    ``operation`` is of ``operations.OPERATIONS`` or ``SESSIONS``. Closed loop: each of ``agents``
    does it again as soon as it is done. Open loop (``rate`` a second, not 0): it begins at random
    times, by a Poisson process from ``seed``, however long others take.
    """

    operation: str
    seconds: float
    agents: int
    rate: float = 0.0
    seed: int = 1

    def to_json(self) -> str:
        """As one line carries it."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> "Order":
        """Read what ``to_json`` wrote."""
        return Order(**json.loads(text))


@dataclass(frozen=True, slots=True)
class Done:
    """What came of an order at one generator.

    ``in_time`` of the ``count`` operations were done when the period had been over for a tenth of a
    second. ``lost``: refusals that belong to the game, such as of a task that another worker took.
    ``failure``: why the order could not be carried out, empty: it could. ``latencies`` are encoded
    histograms, by call.
    """

    count: int
    in_time: int
    seconds: float
    lost: int = 0
    unfinished: int = 0
    failure: str = ""
    latencies: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """As one line carries it."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> "Done":
        """Read what ``to_json`` wrote."""
        return Done(**json.loads(text))
