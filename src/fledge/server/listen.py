"""Listening: a port is taken, an application served, and a signal lets running answers finish."""

from __future__ import annotations

import errno
import signal
import socket
import time
from collections.abc import Callable
from types import FrameType

import uvicorn
from starlette.applications import Starlette

from fledge.core.errors import FledgeError, InputError
from fledge.core.protocols import ChatModel
from fledge.server.app import create_app
from fledge.server.config import ServerConfig
from fledge.server.desk import Desk
from fledge.server.grounded import Library


def take_port(host: str, port: int) -> socket.socket:
    """A socket listening at ``host``:``port`` (0: any free port).

    Raises FledgeError when the port is in use or not allowed, InputError for an unknown host.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        raise InputError(f"--host {host}: {error.strerror}", remedy="try 127.0.0.1") from None
    taken = socket.socket(family, kind, protocol)
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(address)
        taken.listen(128)
    except OSError as error:
        taken.close()
        raise _refused(host, port, error) from None
    return taken


def _refused(host: str, port: int, error: OSError) -> FledgeError:
    if error.errno == errno.EADDRINUSE:
        return FledgeError(
            f"port {port} on {host} is in use",
            remedy="choose another with --port, or --port 0 for any free one",
        )
    if error.errno == errno.EACCES:
        return FledgeError(f"port {port} is not allowed for you", remedy="use --port 8000")
    return FledgeError(f"cannot listen on {host}:{port}: {error.strerror}", remedy="check --host")


def address(taken: socket.socket) -> str:
    """The URL at which a browser on this machine finds the server."""
    host, port = taken.getsockname()[:2]
    local = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{local}:{port}"


def serve(
    model: ChatModel,
    config: ServerConfig,
    taken: socket.socket,
    ready: Callable[[], None] = lambda: None,
    library: Library | None = None,
) -> int:
    """Serve a model until SIGTERM or Ctrl-C; the exit code: 0, or 130 after Ctrl-C.

    The first signal lets running answers finish (new requests get 503), a second one does not.
    ``ready`` is called when requests are answered.  ``library``: documents to answer from.
    """
    return serve_app(create_app(model, config, library), taken, ready, config.drain_seconds)


def serve_app(
    app: Starlette,
    taken: socket.socket,
    ready: Callable[[], None] = lambda: None,
    drain_seconds: float = 0.0,
) -> int:
    """The same for any application that has a desk, at which answers may be running."""
    server = DrainingServer(
        uvicorn.Config(
            app,
            http="h11",
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=5,
        ),
        app.state.desk,
        drain_seconds,
        ready,
    )
    try:
        server.run(sockets=[taken])
    finally:
        app.state.desk.close()
    return 130 if server.received == signal.SIGINT else 0


class DrainingServer(uvicorn.Server):
    """A uvicorn server that goes on answering 503 while running answers finish."""

    def __init__(
        self,
        config: uvicorn.Config,
        desk: Desk,
        drain_seconds: float,
        ready: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(config)
        self.received: int | None = None
        self._desk = desk
        self._drain_seconds = drain_seconds
        self._deadline = float("inf")
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain; a second signal stops at once."""
        if self.received is not None:
            self.force_exit = self.should_exit = True
        self.received = sig
        self.drain()

    def drain(self) -> None:
        """Refuse new requests; stop when the running ones are done or out of time."""
        self._desk.draining = True
        self._deadline = min(self._deadline, time.monotonic() + self._drain_seconds)

    async def on_tick(self, counter: int) -> bool:
        if self._desk.draining and (self._desk.inside == 0 or time.monotonic() > self._deadline):
            self.should_exit = True
        return await super().on_tick(counter)
