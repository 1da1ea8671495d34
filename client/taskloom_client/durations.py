"""Python's durations as the wire's. The other way is the message's own ``ToTimedelta``."""

from datetime import timedelta

from google.protobuf.duration_pb2 import Duration


def proto_duration(delta: timedelta | None) -> Duration | None:
    """``delta`` as a google.protobuf.Duration; None, which leaves a field unset, stays None."""
    if delta is None:
        return None
    duration = Duration()
    duration.FromTimedelta(delta)
    return duration
