"""The application: a chat model in, the OpenAI-compatible API and the chat page out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from functools import partial

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from fledge.client.completer import Completer
from fledge.client.room import stream_in_room
from fledge.core.protocols import ChatModel, Delta, Reply
from fledge.engine.errors import ContextLengthError
from fledge.server.adapter_requests import AdapterName, AdapterRequest
from fledge.server.config import ServerConfig
from fledge.server.desk import Desk
from fledge.server.errors import ApiError, answer_error, as_api_error, too_long
from fledge.server.grounded import Library, RetrievalRequest, no_index
from fledge.server.page import page_routes
from fledge.server.reading import ClientGone, check_key, client_of, read_body, unless_gone
from fledge.server.schema import (
    ChatRequest,
    CompletionRequest,
    GenerationRequest,
    RequestT,
    parse_request,
)
from fledge.server.shelf import Shelf
from fledge.server.wire import Answer, event

STREAM_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def create_app(
    model: ChatModel, config: ServerConfig | None = None, library: Library | None = None
) -> Starlette:
    """An ASGI application that serves ``model``, and answers from ``library`` if there is one.

    Its desk is ``app.state.desk``.
    """
    config = config or ServerConfig()
    api = _Api(model, config, library)
    routes = [
        Route("/v1/chat/completions", api.chat, methods=["POST"]),
        Route("/v1/completions", api.complete, methods=["POST"]),
        Route("/v1/retrieval", api.retrieve, methods=["POST"]),
        Route("/v1/models", api.models, methods=["GET"]),
        Route("/v1/models/{name:path}", api.model_card, methods=["GET"]),
        Route("/v1/load_lora_adapter", api.load_adapter, methods=["POST"]),
        Route("/v1/unload_lora_adapter", api.unload_adapter, methods=["POST"]),
        Route("/health", api.health, methods=["GET"]),
        *page_routes(),
    ]
    handlers = dict.fromkeys((ApiError, HTTPException, Exception), answer_error)
    app = Starlette(routes=routes, exception_handlers={**handlers, ClientGone: _nobody})
    app.router.redirect_slashes = False
    app.state.desk = api.desk
    return app


async def _nobody(request: Request, error: Exception) -> Response:
    """For the log only: the client hung up and reads nothing."""
    return Response(status_code=499)


class _Api:
    """The endpoints."""

    def __init__(self, model: ChatModel, config: ServerConfig, library: Library | None) -> None:
        self._library = library
        self._shelf = Shelf(model, config.adapter_folder)
        self._config = config
        self.desk = Desk(concurrent=config.concurrent, waiting=config.waiting)

    async def health(self, request: Request) -> Response:
        """Whether the server takes requests."""
        if self.desk.draining:
            raise ApiError(503, "the server is stopping", code="draining")
        return JSONResponse({"status": "ok", "model": self._shelf.main.name})

    async def models(self, request: Request) -> Response:
        """The model, and its adapters."""
        check_key(request, self._config.api_keys)
        cards = [self._shelf.card(name) for name in self._shelf.names]
        return JSONResponse({"object": "list", "data": cards})

    async def model_card(self, request: Request) -> Response:
        """The model by its name."""
        check_key(request, self._config.api_keys)
        return JSONResponse(self._shelf.card(request.path_params["name"]))

    async def load_adapter(self, request: Request) -> Response:
        """Take in a LoRA adapter of the server's folder, to be asked for by its name."""
        asked = await self._read(request, AdapterRequest)
        await self.desk.aside(partial(self._shelf.load, asked.lora_name, asked.lora_path))
        return JSONResponse(self._shelf.card(asked.lora_name))

    async def unload_adapter(self, request: Request) -> Response:
        """Forget an adapter."""
        asked = await self._read(request, AdapterName)
        self._shelf.unload(asked.lora_name)
        return JSONResponse({"id": asked.lora_name, "object": "model", "deleted": True})

    async def chat(self, request: Request) -> Response:
        """Answer a conversation."""
        asked = await self._read(request, ChatRequest)
        model = self._model(request, asked)
        messages, sampling = asked.conversation(), asked.sampling()
        library = self._library
        if library is None and asked.grounding:
            raise no_index()
        if library is not None and library.answers(asked):
            start = partial(library.stream, model, messages, sampling)
            return await self._answer(request, asked, start, chat=True)
        return await self._answer(
            request,
            asked,
            lambda: stream_in_room(model, messages, sampling, asked.answer_room),
            chat=True,
        )

    async def retrieve(self, request: Request) -> Response:
        """Passages of the documents for a query."""
        asked = await self._read(request, RetrievalRequest)
        if self._library is None:
            raise no_index()
        try:
            return JSONResponse(await self.desk.aside(partial(self._library.passages, asked)))
        except ApiError:
            raise
        except Exception as error:
            raise as_api_error(error) from error

    async def complete(self, request: Request) -> Response:
        """Continue a text."""
        asked = await self._read(request, CompletionRequest)
        model, sampling = self._model(request, asked), asked.sampling()
        if not isinstance(model, Completer):
            raise ApiError(400, f"{model.name} only chats: use /v1/chat/completions")
        return await self._answer(
            request, asked, lambda: model.complete(asked.prompt, sampling), chat=False
        )

    async def _read(self, request: Request, kind: type[RequestT]) -> RequestT:
        check_key(request, self._config.api_keys)
        try:
            body = await read_body(request, self._config.max_body_bytes)
        except ClientDisconnect:
            raise ClientGone from None
        return parse_request(kind, body)

    def _model(self, request: Request, asked: GenerationRequest) -> ChatModel:
        """The one asked for; clients, told apart by key or else by address, take turns."""
        return self._shelf.get(asked.model, client_of(request, self._config.api_keys))

    async def _answer(
        self,
        request: Request,
        asked: GenerationRequest,
        start: Callable[[], Iterator[Delta]],
        *,
        chat: bool,
    ) -> Response:
        deltas = self.desk.deltas(start)
        counted = asked.stream_options.include_usage
        answer = Answer(model=asked.model, chat=chat, counted=counted)
        try:
            if not asked.stream:
                replies = await unless_gone(request, _last(deltas, asked.n))
                return JSONResponse(answer.whole(replies))
            # The first piece is awaited before the status is sent: until then errors have one.
            first = await unless_gone(request, _first(deltas))
        except (ApiError, ClientGone):
            raise
        except ContextLengthError as error:
            raise too_long(error, "messages" if chat else "prompt") from error
        except Exception as error:
            raise as_api_error(error) from error
        return StreamingResponse(
            _events(answer, first, deltas, asked.n),
            media_type="text/event-stream",
            headers=STREAM_HEADERS,
        )


async def _first(deltas: AsyncIterator[Delta]) -> Delta:
    """The first piece, when it is there."""
    return await anext(deltas)


async def _last(deltas: AsyncIterator[Delta], count: int) -> list[Reply]:
    """The whole answers, when all are done."""
    replies: dict[int, Reply] = {}
    async with aclosing(deltas):  # type: ignore[type-var]
        async for delta in deltas:
            if delta.reply is not None:
                replies[delta.answer] = delta.reply
                if len(replies) == count:
                    return [replies[index] for index in sorted(replies)]
    raise RuntimeError("the model ended without a reply")


async def _events(
    answer: Answer, first: Delta, deltas: AsyncIterator[Delta], count: int
) -> AsyncIterator[bytes]:
    """Server-sent events of answers whose first piece is there."""
    delta: Delta | None = first
    begun: set[int] = set()
    replies: list[Reply] = []
    async with aclosing(deltas):  # type: ignore[type-var]
        try:
            while delta is not None:
                if delta.answer not in begun:
                    begun.add(delta.answer)
                    yield answer.first(delta.answer)
                if delta.text or delta.logprobs:
                    yield answer.piece(delta)
                if delta.reply is not None:
                    yield answer.last(delta)
                    replies.append(delta.reply)
                    if len(replies) == count:
                        yield answer.end(replies)
                        return
                delta = await anext(deltas, None)
        except Exception as error:  # too late for a status: the stream ends with the error
            yield event(as_api_error(error).body())
