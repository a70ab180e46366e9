"""The application for people who label: a log of tasks and labels in, a page and its API out.

GET  /api/next?annotator=NAME    a task for this person, answers shuffled; null when all is done
POST /api/label                  what this person made of it
GET  /api/progress               guidelines, progress of everyone, agreement
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fledge.core.config import Config
from fledge.core.types import Message
from fledge.data.examples import text_of_messages
from fledge.data.labelling.labels import KINDS, checked_name, open_tasks, parse_label
from fledge.data.labelling.log import LabelLog
from fledge.data.labelling.results import statistics
from fledge.data.labelling.tasks import LabelTask
from fledge.server.desk import Desk
from fledge.server.errors import ApiError, as_api_error
from fledge.server.page import WEB, page_routes
from fledge.server.reading import check_key, read_body
from fledge.server.schema import parse_request

PAGE = WEB / "label"

SHARED = tuple(WEB / name for name in ("storage.js", "strings.js", "style.css"))
"""Files of the chat page that this one uses, too."""

NO_STORE = {"Cache-Control": "no-store"}

MOST_BYTES = 1_000_000
"""A longer request gets 413."""


class LabelConfig(Config):
    """How tasks are given to people."""

    each: int = Field(default=2, ge=1)
    """Annotators a task."""

    seed: int = 0
    """Shuffles the answers, for each annotator and task otherwise."""

    guidelines: str = ""
    """Shown beside every task."""

    api_keys: tuple[str, ...] = ()
    """Keys of which a client must send one as ``Authorization: Bearer KEY``; none: open to all."""


class LabelRequest(BaseModel):
    """``POST /api/label``"""

    model_config = ConfigDict(strict=True, extra="forbid", use_attribute_docstrings=True)

    task: str = Field(max_length=100)
    """Its ``key``."""

    annotator: str = Field(max_length=1000)
    kind: str = Field(pattern=f"^({'|'.join(KINDS)})$")
    ranking: list[list[str]] = Field(default_factory=list, max_length=100)
    """Ids of the answers in groups, the best first."""

    text: str = ""
    note: str = ""
    seconds: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    shown: list[str] = Field(default_factory=list, max_length=100)


def create_label_app(log: LabelLog, config: LabelConfig) -> Starlette:
    """An ASGI application by which people label the tasks of ``log``."""
    api = _Api(log, config)
    routes = [
        Route("/api/next", api.next, methods=["GET"]),
        Route("/api/label", api.label, methods=["POST"]),
        Route("/api/progress", api.progress, methods=["GET"]),
        *page_routes(PAGE, SHARED),
    ]
    handlers = dict.fromkeys((ApiError, HTTPException, ClientDisconnect, Exception), _answer_error)
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.state.desk = Desk(concurrent=1, waiting=0)  # nothing is generated: it stays empty
    return app


async def _answer_error(request: Request, error: Exception) -> Response:
    if isinstance(error, ClientDisconnect):
        return Response(status_code=499)  # for the log only: the client is gone
    if isinstance(error, HTTPException):
        return ApiError(error.status_code, error.detail, headers=error.headers).response()
    return as_api_error(error).response()


class _Api:
    """The endpoints."""

    def __init__(self, log: LabelLog, config: LabelConfig) -> None:
        self._log = log
        self._config = config
        self._given_out: dict[str, str] = {}
        """Annotator -> key of the task that this one looks at."""

    async def next(self, request: Request) -> Response:
        """A task for the annotator, and how many are done and left."""
        check_key(request, self._config.api_keys)
        name = _name(request.query_params.get("annotator", ""))
        return JSONResponse(await run_in_threadpool(self._next, name), headers=NO_STORE)

    def _next(self, name: str) -> dict[str, Any]:
        labels = self._log.labels
        others = [key for who, key in list(self._given_out.items()) if who != name]
        left = open_tasks(self._log.tasks, labels, name, self._config.each, others)
        if left:
            self._given_out[name] = left[0].key
        else:
            self._given_out.pop(name, None)
        return {
            "task": self._shown(left[0], name) if left else None,
            "done": sum(who == name for _, who in labels),
            "left": len(left),
        }

    def _shown(self, task: LabelTask, name: str) -> dict[str, Any]:
        answers = task.by_id
        return {
            "key": task.key,
            "kind": task.kind,
            "prompt": [_turn(message) for message in task.prompt],
            "answers": [
                {"id": one, "text": text_of_messages(answers[one])}
                for one in task.shown_to(name, self._config.seed)
            ],
        }

    async def label(self, request: Request) -> Response:
        """Write a label to the log; it is on the disk when the answer comes."""
        check_key(request, self._config.api_keys)
        kind = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind != "application/json":  # which other sites' pages cannot send unasked
            raise ApiError(400, "send JSON, as 'Content-Type: application/json'")
        asked = parse_request(LabelRequest, await read_body(request, MOST_BYTES))
        given = asked.model_dump() | {"annotator": _name(asked.annotator)}
        try:
            await run_in_threadpool(self._log.add, parse_label(given))
        except ValueError as error:
            raise ApiError(400, str(error)) from None
        return JSONResponse({"ok": True}, headers=NO_STORE)

    async def progress(self, request: Request) -> Response:
        """What ``fledge label stats`` tells, with the guidelines."""
        check_key(request, self._config.api_keys)
        told = await run_in_threadpool(statistics, self._log.tasks, self._log.labels)
        return JSONResponse({"guidelines": self._config.guidelines, **told}, headers=NO_STORE)


def _name(given: str) -> str:
    try:
        return checked_name(given)
    except ValueError as error:
        raise ApiError(400, str(error), param="annotator") from None


def _turn(message: Message) -> dict[str, str]:
    return {"role": message.role, "text": text_of_messages([message])}
