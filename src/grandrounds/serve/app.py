"""The routes: models, chat completions, health, metrics, the playground."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from grandrounds.serve.body import body_of
from grandrounds.serve.chat_request import parse_request
from grandrounds.serve.chat_response import ChatResponse, event
from grandrounds.serve.choice import Update
from grandrounds.serve.errors import ApiError, described
from grandrounds.serve.guard import KeyGuard, error_response
from grandrounds.serve.metrics import Metrics
from grandrounds.serve.options import ServeOptions
from grandrounds.serve.playground import FREE_PATHS, add_playground
from grandrounds.serve.scheduler import Job, Scheduler, Told
from grandrounds.serve.served import Served
from grandrounds.web.guarding import Guarded

_LOG = logging.getLogger(__name__)


class Server:
    """What the routes share."""

    def __init__(self, served: dict[str, Served], options: ServeOptions) -> None:
        self.served, self.options = served, options
        self.metrics = Metrics()
        self.scheduler = Scheduler(served, options, self.metrics)
        self.started = int(time.time())

    def model(self, name: str) -> dict[str, Any]:
        """A model as OpenAI's API lists it. ApiError for one that is not served."""
        self.known(name)
        return {"id": name, "object": "model", "created": self.started, "owned_by": "grandrounds"}

    def known(self, name: str) -> Served:
        """The policy of this name. ApiError where there is none."""
        if name not in self.served:
            names = ", ".join(self.served)
            raise ApiError(
                404,
                f"There is no model of this name. Served are: {names}.",
                param="model",
                code="model_not_found",
            )
        return self.served[name]

    async def chat(self, request: Request) -> Response:
        """Answer a request for chat completions."""
        asked = parse_request(await body_of(request, self.options.max_body))
        served = self.known(asked.model)
        rows = await run_in_threadpool(served.rows, asked)
        loop, told = asyncio.get_running_loop(), asyncio.Queue[Told | None]()

        def tell(new: Told) -> None:
            loop.call_soon_threadsafe(told.put_nowait, new)

        job = Job(asked.model, rows, asked.stop, tell)
        self.scheduler.submit(job)
        prompt_tokens = len(rows[0].prompt.tokens)
        self.metrics.prompt_tokens += prompt_tokens
        usage = asked.stream_options is not None and asked.stream_options.include_usage
        response = ChatResponse(asked.model, asked.n, prompt_tokens, asked.logprobs, usage)
        if asked.stream:
            events = self._events(_updates(request, told, response), response)
            return _Stream(events, lambda: self._leave(job, response))
        try:
            async for _ in _updates(request, told, response):
                pass
            # Where the client has gone, nobody reads the answer.
            return JSONResponse(response.whole()) if response.complete else Response(status_code=499)
        finally:
            self._leave(job, response)

    async def _events(
        self, updates: AsyncIterator[Sequence[Update]], response: ChatResponse
    ) -> AsyncIterator[str]:
        for line in response.begin():
            yield line
        try:
            async for new in updates:
                for line in response.events(new):
                    yield line
        except ApiError as error:  # the status is sent already
            yield event(error.body)
            return
        for line in response.end():
            yield line

    def _leave(self, job: Job, response: ChatResponse) -> None:
        if not response.complete:
            self.scheduler.cancel(job)


class _Stream(StreamingResponse):
    """Server-sent events. at_end: called however the stream ends, even before its first event."""

    def __init__(self, events: AsyncIterator[str], at_end: Callable[[], None]) -> None:
        super().__init__(events, media_type="text/event-stream")
        self._at_end = at_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._at_end()


async def _updates(
    request: Request, told: asyncio.Queue[Told | None], response: ChatResponse
) -> AsyncIterator[Sequence[Update]]:
    """What the decoding thread tells, until the response is complete or the client has gone."""
    gone = asyncio.create_task(_gone(request))
    gone.add_done_callback(lambda _: told.put_nowait(None))
    try:
        while not response.complete:
            updates = await told.get()
            if updates is None:
                return
            if isinstance(updates, ApiError):
                raise updates
            response.add(updates)
            yield updates
    finally:
        gone.cancel()


async def _gone(request: Request) -> None:
    """Returns when the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def build_app(served: dict[str, Served], options: ServeOptions) -> FastAPI:
    """The application, with its decoding thread running."""
    server = Server(served, options)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(server.scheduler.close)

    # No generated pages: they would load their scripts from elsewhere.
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, lifespan=lifespan)
    app.state.server = server
    if options.api_key is not None:
        app.add_middleware(KeyGuard, key=options.api_key, free=FREE_PATHS | {"/health"})
    app.add_middleware(Guarded, host=options.host)  # the last one added is the first one asked
    _add_errors(app)
    _add_routes(app, server)
    add_playground(app, options.max_body)
    return app


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(ApiError)
    async def refused(request: Request, error: ApiError) -> Response:
        if request.url.path == "/v1/chat/completions":
            request.app.state.server.metrics.requests[error.status] += 1
        return error_response(error)

    @app.exception_handler(HTTPException)
    async def missing(request: Request, error: HTTPException) -> Response:
        return error_response(ApiError(error.status_code, f"{error.detail}."))

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        _LOG.error("a request failed: %s", described(error))
        return error_response(ApiError(500, "The server failed on this request."))


def _add_routes(app: FastAPI, server: Server) -> None:
    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [server.model(name) for name in server.served]}

    @app.get("/v1/models/{name:path}")
    async def model(name: str) -> dict[str, Any]:
        return server.model(name)

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        response = await server.chat(request)
        server.metrics.requests[response.status_code] += 1
        return response

    @app.get("/health")
    async def health() -> Response:
        if failed := server.scheduler.failed:
            return JSONResponse({"status": "failed", "models": failed}, status_code=503)
        return JSONResponse({"status": "ok"})

    @app.get("/metrics")
    async def metrics() -> Response:
        running, waiting = server.scheduler.counts()
        return PlainTextResponse(server.metrics.text(running, waiting))
