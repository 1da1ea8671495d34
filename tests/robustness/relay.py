"""A TCP relay on loopback, between clients and server, that can be told to misbehave.

It delays, cuts (also in the middle of a message), resets, falls silent, and turns away. It
looks at no byte and loses none that it later passes on: what it has swallowed once, it ends with a
cut, as a network does.
"""

import asyncio
import contextlib
import random
import socket
import struct
from collections import deque
from typing import cast

_LINGER_NOT = struct.pack("ii", 1, 0)  # a close becomes a reset


class Link:
    """One client's connection and the one to the server that belongs to it."""

    def __init__(self, relay: "Relay", client: asyncio.Transport) -> None:
        self._relay = relay
        self.client = _Side(self, client)
        self.server: _Side | None = None
        self.delay = 0.0  # seconds that every piece is held
        self.silent = False  # both directions
        self.deaf_to_server = False  # what the server says is swallowed, what it hears is not
        self.partial = False  # the next piece is cut in half, and the link with it

    def forward(self, source: "_Side", data: bytes) -> None:
        """Pass a piece on to the other side, or do not."""
        target = self.server if source is self.client else self.client
        if target is None:  # the server is not reached yet
            source.kept.append(data)
            return
        if self.silent or (self.deaf_to_server and target is self.client):
            self._relay.swallowed += len(data)
            return
        if self.partial and len(data) > 1:
            target.send(data[: len(data) // 2], 0)
            self.cut(reset=False)
            return
        target.send(data, self.delay)

    def reached(self, server: asyncio.Transport) -> None:
        """The server has accepted."""
        self.server = _Side(self, server)
        cast(_Protocol, server.get_protocol()).side = self.server
        kept, self.client.kept = self.client.kept, []
        for data in kept:
            self.forward(self.client, data)

    def cut(self, *, reset: bool) -> None:
        """End both connections; ``reset``: as a machine does that has crashed."""
        self._relay.links.discard(self)
        for side in (self.client, self.server):
            if side is None or side.transport.is_closing():
                continue
            if reset:
                sock = side.transport.get_extra_info("socket")
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
            side.transport.abort()

    def ended(self, side: "_Side") -> None:
        """One side has closed: the other is to hear of it, after what is under way."""
        if self.silent:
            return
        self._relay.links.discard(self)
        other = self.server if side is self.client else self.client
        if other is not None:
            other.close_after_sending()


class _Side:
    """One of the two connections of a link, and what is held back on the way to it."""

    def __init__(self, link: Link, transport: asyncio.Transport) -> None:
        self.link = link
        self.transport = transport
        self.kept: list[bytes] = []  # came from here before the server was reached
        self._held: deque[tuple[float, bytes]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._closing = False

    def send(self, data: bytes, delay: float) -> None:
        """Write, after so long, and after everything that was to be written before."""
        if self.transport.is_closing():
            return
        if not delay and not self._held:
            self.transport.write(data)
            return
        loop = asyncio.get_running_loop()
        due = loop.time() + delay
        if self._held:
            due = max(due, self._held[-1][0])
        self._held.append((due, data))
        if self._timer is None:
            self._timer = loop.call_at(self._held[0][0], self._flush)

    def close_after_sending(self) -> None:
        """Close once nothing is held back any more."""
        self._closing = True
        if not self._held:
            self.transport.close()

    def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        if self.transport.is_closing():
            self._held.clear()
        while self._held and self._held[0][0] <= loop.time():
            self.transport.write(self._held.popleft()[1])
        if self._held:
            self._timer = loop.call_at(self._held[0][0], self._flush)
        elif self._closing:
            self.transport.close()

    def other(self) -> "_Side | None":
        """The connection at the other end."""
        return self.link.server if self is self.link.client else self.link.client


class _Protocol(asyncio.Protocol):
    """Hands what asyncio tells of a connection to its side."""

    def __init__(self, side: _Side | None = None) -> None:
        self.side = side

    def data_received(self, data: bytes) -> None:
        if self.side is not None:
            self.side.link.forward(self.side, data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.side is not None:
            self.side.link.ended(self.side)

    def pause_writing(self) -> None:
        """Who reads slowly slows who writes: nothing piles up here."""
        self._other_transport("pause_reading")

    def resume_writing(self) -> None:
        self._other_transport("resume_reading")

    def _other_transport(self, action: str) -> None:
        other = self.side.other() if self.side is not None else None
        if other is not None and not other.transport.is_closing():
            getattr(other.transport, action)()


class _Accepted(_Protocol):
    """A client's connection: the server is dialled for it."""

    def __init__(self, relay: "Relay") -> None:
        super().__init__()
        self._relay = relay

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        client = cast(asyncio.Transport, transport)
        if self._relay.refusing or not self._relay.upstream_port:
            client.abort()
            return
        link = Link(self._relay, client)
        self.side = link.client
        self._relay.links.add(link)
        self._relay.accepted += 1
        self._relay.dial(link)


class Relay:
    """Listens where clients connect, and passes on to ``upstream_port``; 0: to nobody."""

    def __init__(self) -> None:
        self.upstream_port = 0
        self.refusing = False
        self.links: set[Link] = set()
        self.accepted = 0
        self.cuts = 0
        self.swallowed = 0  # bytes
        self._server: asyncio.Server | None = None
        self._dialling: set[asyncio.Task[None]] = set()

    async def start(self) -> str:
        """Listen; the address for clients."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Accepted(self), "127.0.0.1", 0)
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        """Listen no more, and end all links."""
        if self._server is not None:
            self._server.close()
        for link in list(self.links):
            link.cut(reset=False)
        for task in list(self._dialling):
            task.cancel()
        await asyncio.gather(*self._dialling, return_exceptions=True)

    def dial(self, link: Link) -> None:
        """Connect a link to the server, in the background."""
        task = asyncio.get_running_loop().create_task(self._dial(link))
        self._dialling.add(task)
        task.add_done_callback(self._dialling.discard)

    async def _dial(self, link: Link) -> None:
        loop = asyncio.get_running_loop()
        try:
            transport, _ = await loop.create_connection(_Protocol, "127.0.0.1", self.upstream_port)
        except OSError:
            link.cut(reset=False)
            return
        if link.client.transport.is_closing():
            transport.abort()
            return
        link.reached(transport)

    def some(self, rng: random.Random, share: float) -> list[Link]:
        """A random choice of about this share of the links, one at least where there is one."""
        links = sorted(self.links, key=id)
        return rng.sample(links, max(1, round(share * len(links)))) if links else []

    def cut(self, links: list[Link], *, reset: bool) -> None:
        """Cut these links."""
        for link in links:
            self.cuts += 1
            link.cut(reset=reset)
