"""What a simulated agent or coordinator is told when it starts, as its command line carries it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from taskloom_experiments import simulation
from taskloom_experiments.behaviour import Behaviour
from taskloom_experiments.coordinating import Costs
from taskloom_experiments.decomposing import Decomposition
from taskloom_experiments.modes import COORDINATED, MODES, Mode
from taskloom_experiments.pulls import ASSIGNED, PULLS, Pull

DEFAULT_LEASE_S = 30.0


@dataclass(frozen=True)
class AgentSettings:
    """How a simulated agent connects, gets its tasks, and works.

    ``pull`` is how it gets what it does: by a way of pulling, or ASSIGNED. ``lease_s`` are real
    seconds: how long a task stays with an agent that vanished, unless somebody who knows
    disconnects it before. The others are as in a definition, and in ``simulation.work_for``.
    """

    pull: Pull
    seed: int
    speed: float
    workflow: str = "swarm"
    tags: tuple[str, ...] = ()
    max_claims: int = 1
    lease_s: float = DEFAULT_LEASE_S
    noise: float = simulation.DEFAULT_NOISE
    mode: Mode = "pull"
    behaviour: Behaviour = field(default_factory=Behaviour)
    decomposition: Decomposition = field(default_factory=Decomposition)

    @property
    def slow_s(self) -> float:
        """How slow it is to respond, in real seconds."""
        return self.behaviour.slow_response_s / self.speed

    def to_json(self) -> str:
        """As the command line carries it."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> "AgentSettings":
        """Read what ``to_json`` wrote. Raises ValueError, one sentence."""
        try:
            fields = _fields(text)
            fields["behaviour"] = Behaviour(**fields.get("behaviour", {}))
            fields["decomposition"] = Decomposition(**fields.get("decomposition", {}))
            settings = AgentSettings(**fields)
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"--config cannot be used: {error}") from error
        if settings.mode not in MODES:
            raise ValueError(f"--config: mode is {settings.mode!r}; write {' or '.join(MODES)}")
        known = (ASSIGNED,) if settings.mode in COORDINATED else PULLS
        if settings.pull not in known:
            raise ValueError(f"--config: pull is {settings.pull!r}; write {' or '.join(known)}")
        _check_speed(settings.speed)
        return settings


@dataclass(frozen=True)
class CoordinatorSettings:
    """How a simulated coordinator connects, and what its decisions cost."""

    speed: float
    workflow: str = "swarm"
    tags: tuple[str, ...] = ()
    lease_s: float = DEFAULT_LEASE_S
    costs: Costs = field(default_factory=Costs)

    def to_json(self) -> str:
        """As the command line carries it."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> "CoordinatorSettings":
        """Read what ``to_json`` wrote. Raises ValueError, one sentence."""
        try:
            fields = _fields(text)
            settings = CoordinatorSettings(**{**fields, "costs": Costs(**fields.get("costs", {}))})
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"--coordinator cannot be used: {error}") from error
        _check_speed(settings.speed)
        return settings


def _fields(text: str) -> dict[str, Any]:
    fields = json.loads(text)
    if not isinstance(fields, Mapping):
        raise TypeError("it is no JSON object")
    return {**fields, "tags": tuple(fields.get("tags", ()))}


def _check_speed(speed: float) -> None:
    if not speed > 0:
        raise ValueError(f"--config: speed is {speed}; it must be above 0")
