"""A server in a thread on a free port, over any chat model or application; a browser."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette

from fledge.client.echo import Echo
from fledge.client.open import open_model
from fledge.core.protocols import ChatModel
from fledge.server.app import create_app
from fledge.server.config import ServerConfig
from fledge.server.desk import Desk
from fledge.server.listen import DrainingServer, address, take_port
from pico_model import write_pico_model

CHROMIUM = Path("/usr/bin/chromium")


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


def begin(app: Starlette, drain_seconds: float) -> Running:
    """A server of the application that answers requests."""
    taken = take_port("127.0.0.1", 0)
    ready = threading.Event()
    server = DrainingServer(
        uvicorn.Config(app, http="h11", ws="none", loop="asyncio", lifespan="off", log_config=None),
        app.state.desk,
        drain_seconds,
        ready.set,
    )
    thread = threading.Thread(target=server.run, args=([taken],), daemon=True)
    thread.start()
    assert ready.wait(timeout=20)
    return Running(address(taken), app.state.desk, server, thread)


@pytest.fixture(scope="module")
def start() -> Iterator[Start]:
    """``start(model, **config)`` begins a server; all are stopped at the end."""
    begun: list[Running] = []

    def start_model(model: ChatModel, **config: object) -> Running:
        settings = ServerConfig(**config)  # type: ignore[arg-type]
        begun.append(begin(create_app(model, settings), settings.drain_seconds))
        return begun[-1]

    yield start_model
    for running in begun:
        running.stop()


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> ChatModel:
    """A pico model that chats, in this process."""
    return open_model(str(write_pico_model(tmp_path_factory.mktemp("runs") / "pico")))


@pytest.fixture(scope="module")
def pico(start: Start, local: ChatModel) -> Running:
    """A server of ``local``."""
    return start(local)


@pytest.fixture(scope="module")
def echo(start: Start) -> Running:
    """A server that says what it is told."""
    return start(Echo())


@pytest.fixture
def start_app() -> Iterator[Callable[[Starlette], Running]]:
    """``start_app(app)`` begins a server of any application; all are stopped at the end."""
    begun: list[Running] = []

    def start_one(app: Starlette) -> Running:
        begun.append(begin(app, 0.0))
        return begun[-1]

    yield start_one
    for running in begun:
        running.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's Chromium."""
    playwright = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.exists():
        pytest.skip(f"needs {CHROMIUM}")
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(
            executable_path=str(CHROMIUM),
            args=["--no-sandbox", "--disable-background-networking"],
        )
        yield launched
        launched.close()
