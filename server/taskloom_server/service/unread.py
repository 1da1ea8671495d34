"""What the server holds for clients who do not take it: bounded, by refusing more of it.

gRPC keeps an answer until its reader has room for it, so a thousand pages that nobody reads would
be a thousand pages of memory.
"""

from typing import Any

from grpc import aio

from taskloom_server.graph.errors import TooManyCalls

_COME_BACK_MS = 1000


class Unread:
    """The bytes that are held for calls, up to a limit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._sizes: dict[Any, int] = {}  # by context
        self._held = 0

    def hold(self, context: aio.ServicerContext[Any, Any], size: int) -> None:
        """Count so much for a call, until it is released or over.

        Raises TooManyCalls where it would be too much, unless it is the only one.
        """
        if self._held and self._held + size > self._limit:
            raise TooManyCalls(
                f"the server holds {self._held >> 20} MiB of answers for clients who have not "
                f"read them yet, and its limit is {self._limit >> 20} MiB",
                retry_after_ms=_COME_BACK_MS,
            )
        self._sizes[context] = size
        self._held += size

        def over(_: Any) -> None:  # called with the context, whatever the stubs say
            self.release(context)

        context.add_done_callback(over)  # type: ignore[arg-type]

    def release(self, context: aio.ServicerContext[Any, Any]) -> None:
        """Count nothing more for a call."""
        self._held -= self._sizes.pop(context, 0)
