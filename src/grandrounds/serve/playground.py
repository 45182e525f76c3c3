"""The playground: one page without anything from elsewhere, and what it needs to highlight findings and count votes."""

from __future__ import annotations

from collections import defaultdict
from importlib.resources import files
from typing import Any

from fastapi import FastAPI, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response

from grandrounds.response.outline import parse_outline
from grandrounds.rewards.text import normalise
from grandrounds.serve.errors import ApiError
from grandrounds.serve.options import ServeOptions
from grandrounds.serve.served import Served

# The page's files and their types.
_FILES = {
    "playground.html": "text/html; charset=utf-8",
    "playground.css": "text/css; charset=utf-8",
    "playground.js": "text/javascript; charset=utf-8",
}


class GivenResponse(BaseModel):
    """A response that the page has got."""

    model_config = ConfigDict(extra="forbid")
    reasoning: str = ""
    answer: str | None = None


class ReadRequest(BaseModel):
    """Responses of one model to one question."""

    model_config = ConfigDict(extra="forbid")
    responses: list[GivenResponse] = Field(max_length=256)


def read_responses(asked: ReadRequest) -> dict[str, Any]:
    """What each reasoning names, and the vote: answers that read the same after normalising count together."""
    votes: dict[str, list[int]] = defaultdict(list)
    for number, response in enumerate(asked.responses):
        if response.answer:
            votes[normalise(response.answer)].append(number)
    counted = sorted(votes.values(), key=lambda numbers: (-len(numbers), numbers[0]))
    return {
        "votes": [
            {"answer": asked.responses[numbers[0]].answer, "count": len(numbers)} for numbers in counted
        ],
        "responses": [_named(response.reasoning) for response in asked.responses],
    }


def _named(reasoning: str) -> dict[str, list[str]]:
    outline = parse_outline(reasoning)
    return {
        "findings": list(outline.findings),
        "supports": sorted({claim.finding for one in outline.differential for claim in one.supports}),
        "contradicts": sorted({claim.finding for one in outline.differential for claim in one.contradicts}),
    }


def add_playground(app: FastAPI, served: dict[str, Served], options: ServeOptions) -> None:
    """Add the page's routes."""
    from grandrounds.serve.app import body_of

    folder = files("grandrounds.serve") / "static"
    contents = {name: (folder / name).read_bytes() for name in _FILES}

    @app.get("/")
    async def page() -> Response:
        return Response(contents["playground.html"], media_type=_FILES["playground.html"])

    @app.get("/playground/static/{name}")
    async def static(name: str) -> Response:
        if name not in _FILES:
            raise ApiError(404, "Not Found.")
        return Response(contents[name], media_type=_FILES[name])

    @app.post("/playground/read")
    async def read(request: Request) -> Response:
        body = await body_of(request, 8 * options.max_body)
        try:
            asked = ReadRequest.model_validate_json(body)
        except ValidationError:
            raise ApiError(400, "Send {responses: [{reasoning, answer}]}.") from None
        return JSONResponse(await run_in_threadpool(read_responses, asked))
