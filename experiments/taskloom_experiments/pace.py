"""How fast simulated work goes by, and how patient agents are then."""

DEFAULT_SPEED = 3600.0
"""An hour of simulated work a second: the tasks of the templates then take 0.05 to 1 s."""

SIMULATED_SPEED = 1.0
"""Of a simulation, in which time costs nothing: tasks take as long as they are estimated."""


def pace(speed: float) -> float:
    """How many times longer than by default agents rest, wait and are trusted, at this speed.

    What lasts longer is looked at less often: a rest of 20 ms between tasks that take a second is
    one of a minute between tasks that take an hour.
    """
    return max(1.0, DEFAULT_SPEED / speed)
