"""The playground's page, and what it asks for beside the API: findings looked up in the question, and votes counted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Annotated, Any

from fastapi import FastAPI, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response

from grandrounds.report.findings import Piece, asked, cited, pieces, stated
from grandrounds.response.grammar import Response as Parsed
from grandrounds.rewards.evidence import forget_cases
from grandrounds.rewards.text import normalise
from grandrounds.serve.body import body_of
from grandrounds.serve.errors import ApiError
from grandrounds.web.parts import SHARED, add_parts

PARTS = {
    "": ("grandrounds.serve", "static", "playground.html"),
    "page.css": ("grandrounds.report", "templates", "page.css"),
    "playground.css": ("grandrounds.serve", "static", "playground.css"),
    "playground.js": ("grandrounds.serve", "static", "playground.js"),
}
# Whoever may see the page may load it; what it asks for needs the key.
FREE_PATHS = frozenset(f"/{name}" for name in (*SHARED, *PARTS))
# Characters of a text in which findings are marked. The rest is shown without marks.
MARKED = 20_000


class GivenResponse(BaseModel):
    """A response that the page has got."""

    model_config = ConfigDict(extra="forbid")
    reasoning: str = ""
    answer: str = ""


class ReadRequest(BaseModel):
    """Responses to one question: a list for each model."""

    model_config = ConfigDict(extra="forbid")
    question: str
    models: list[Annotated[list[GivenResponse], Field(max_length=1024)]] = Field(max_length=64)


def read_responses(request: ReadRequest) -> dict[str, Any]:
    """The question and each model's reasonings in pieces, with findings marked as present, absent or not in the
    question; and each model's votes."""
    case = asked(request.question[:MARKED], None)
    try:
        marks = [[cited(_parsed(one), case) for one in responses] for responses in request.models]
        question, _ = stated(case, request.question[:MARKED], chain.from_iterable(marks))
    finally:
        forget_cases()
    return {
        "question": [*question, *_rest(request.question)],
        "models": [
            {
                "reasonings": [
                    _marked(one.reasoning, found) for one, found in zip(responses, own, strict=True)
                ],
                "votes": votes([one.answer for one in responses]),
            }
            for responses, own in zip(request.models, marks, strict=True)
        ],
    }


def votes(answers: Sequence[str]) -> list[dict[str, Any]]:
    """Answers and how often each was given, the most frequent first. Those that read the same after normalising count
    together; an empty one does not vote."""
    places: dict[str, list[int]] = defaultdict(list)
    for place, answer in enumerate(answers):
        if answer:
            places[normalise(answer)].append(place)
    ordered = sorted(places.values(), key=lambda given: (-len(given), given[0]))
    return [{"answer": answers[given[0]], "count": len(given)} for given in ordered]


def _parsed(response: GivenResponse) -> Parsed:
    return Parsed(response.reasoning[:MARKED], response.answer, (), "")


def _marked(reasoning: str, found: Mapping[str, str]) -> list[Piece]:
    return [*pieces(reasoning[:MARKED], found), *_rest(reasoning)] if reasoning else []


def _rest(text: str) -> list[Piece]:
    return [(text[MARKED:], None)] if len(text) > MARKED else []


def add_playground(app: FastAPI, max_body: int) -> None:
    """Add the page's routes."""
    add_parts(app, PARTS)

    @app.post("/playground/read")
    async def read(request: Request) -> Response:
        # The responses of a request are longer than the request.
        body = await body_of(request, 8 * max_body)
        try:
            given = ReadRequest.model_validate_json(body)
        except ValidationError:
            raise ApiError(400, "Send {question, models: [[{reasoning, answer}]]}.") from None
        return JSONResponse(await run_in_threadpool(read_responses, given))
