"""A server in a thread on a free port, over any chat model."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import uvicorn

from fledge.core.protocols import ChatModel
from fledge.server.app import create_app
from fledge.server.config import ServerConfig
from fledge.server.desk import Desk
from fledge.server.listen import DrainingServer, address, take_port


@dataclass
class Running:
    """A server that answers at ``url``."""

    url: str
    desk: Desk
    server: DrainingServer
    thread: threading.Thread

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(timeout=20)
        self.desk.close()
        assert not self.thread.is_alive()


Start = Callable[..., Running]


@pytest.fixture(scope="module")
def start() -> Iterator[Start]:
    """``start(model, **config)`` begins a server; all are stopped at the end."""
    begun: list[Running] = []

    def begin(model: ChatModel, **config: object) -> Running:
        settings = ServerConfig(**config)  # type: ignore[arg-type]
        taken = take_port("127.0.0.1", 0)
        app = create_app(model, settings)
        ready = threading.Event()
        server = DrainingServer(
            uvicorn.Config(
                app, http="h11", ws="none", loop="asyncio", lifespan="off", log_config=None
            ),
            app.state.desk,
            settings.drain_seconds,
            ready.set,
        )
        thread = threading.Thread(target=server.run, args=([taken],), daemon=True)
        thread.start()
        assert ready.wait(timeout=20)
        begun.append(Running(address(taken), app.state.desk, server, thread))
        return begun[-1]

    yield begin
    for running in begun:
        running.stop()
