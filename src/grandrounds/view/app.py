"""The page's server: its few files, and what it asks for, as JSON. It reads folders and writes nothing.

/                                   the page; /NAME its style sheets and scripts
/api/runs                           every run with its warnings and filters
/api/runs/I/curves                  metrics from row `after` on, and held-out evaluations
/api/runs/I/completions             a page of the list: filter, search, case, order, groups, page
/api/runs/I/groups/ROUND/GROUP      one group
/api/runs/I/text/ROUND/GROUP/N      the whole text of one completion, or of the prompt where N is "prompt"
/api/events                         server-sent events: which runs changed
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import PlainTextResponse, Response, StreamingResponse

from grandrounds.view.filters import FILTERS
from grandrounds.view.group import group_page
from grandrounds.view.rollouts import ORDERS, Query, Rollouts, columns_of
from grandrounds.view.run import Run, Stored
from grandrounds.web.guarding import Guarded
from grandrounds.web.parts import add_parts

# Seconds between two looks at the folders, and after which a silent stream of events says that it is alive.
LOOK, ALIVE = 1.0, 15.0
LONGEST_SEARCH = 1000
PARTS = {
    "": ("grandrounds.view", "static", "index.html"),
    "page.css": ("grandrounds.report", "templates", "page.css"),
    **{
        name: ("grandrounds.view", "static", name)
        for name in ("view.css", "main.js", "charts.js", "chart.js", "runs.js", "list.js", "group.js")
    },
}


@dataclass(frozen=True)
class Shown:
    """A run on the page."""

    name: str
    run: Run
    rollouts: Rollouts


def make_app(runs: Mapping[str, Run], host: str = "127.0.0.1") -> FastAPI:
    """The application for these runs, by name. host: what the server is bound to."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)  # FastAPI's own pages load from a CDN
    app.add_middleware(Guarded, host=host)
    shown = [Shown(name, run, Rollouts(run)) for name, run in runs.items()]
    add_parts(app, PARTS)
    _add_runs(app, shown)
    _add_completions(app, shown)

    @app.get("/api/events")
    async def events(request: Request) -> StreamingResponse:
        return StreamingResponse(_changes(shown, request), media_type="text/event-stream")

    # What takes longest is read while the browser starts.
    app.state.read_ahead = lambda: [one.rollouts.state() for one in shown]
    return app


def _add_runs(app: FastAPI, shown: Sequence[Shown]) -> None:
    @app.get("/api/runs")
    def list_runs() -> Response:
        return _json({"runs": [_run(number, one) for number, one in enumerate(shown)], "orders": ORDERS})

    @app.get("/api/runs/{number}/curves")
    def curves(number: int, after: int = 0, epoch: int = -1) -> Response:
        one = _at(shown, number)
        now, rows = one.run.metrics()
        start = max(0, after) if epoch == now else 0
        return _json(
            {
                "epoch": now,
                "start": start,
                "total": len(rows),
                "columns": columns_of(rows[start:]),
                "evaluations": columns_of(one.run.evaluations()),
            }
        )


def _run(number: int, one: Shown) -> dict[str, Any]:
    state = one.rollouts.state()
    damaged = [{"round": None, "what": line, "cause": "", "hint": ""} for line in state.unreadable]
    return {
        "number": number,
        "name": one.name,
        "kind": one.run.kind,
        "about": one.run.about(),
        "length_unit": one.run.length_unit,
        "completions": state.frame.height,
        "warnings": [*one.run.warnings(), *damaged],
        "filters": one.rollouts.filters(),
    }


def _add_completions(app: FastAPI, shown: Sequence[Shown]) -> None:
    @app.get("/api/runs/{number}/completions")
    def completions(
        number: int,
        filter: str = "all",
        search: str = "",
        case: str = "",
        order: str = "",
        groups: bool = True,
        page: int = 1,
    ) -> Response:
        if filter not in FILTERS or order not in ("", *ORDERS) or not 1 <= page <= 10**9:
            raise HTTPException(400, "no such filter, order or page")
        query = Query(filter, search[:LONGEST_SEARCH], case, order, groups, page)
        return _json(_at(shown, number).rollouts.page(query))

    @app.get("/api/runs/{number}/groups/{round}/{group}")
    def one_group(number: int, round: int, group: int) -> Response:
        one = _at(shown, number)
        stored = _group(one, round, group)
        return _json(
            {
                "round": round,
                "group": group,
                **one.rollouts.neighbours(round, group),
                "history": one.rollouts.case(stored[0].case_id),
                **group_page(stored, one.run.grammar()),
            }
        )

    @app.get("/api/runs/{number}/text/{round}/{group}/{sample}")
    def text(number: int, round: int, group: int, sample: str) -> Response:
        stored = _group(_at(shown, number), round, group)
        if sample == "prompt":
            return _plain(stored[0].prompt)
        found = [one.text for one in stored if str(one.sample) == sample]
        if not found:
            raise HTTPException(404, "no such completion")
        return _plain(found[0])


def _at(shown: Sequence[Shown], number: int) -> Shown:
    if not 0 <= number < len(shown):
        raise HTTPException(404, "no such run")
    return shown[number]


def _group(one: Shown, number: int, group: int) -> list[Stored]:
    if not max(abs(number), abs(group)) < 2**31:
        raise HTTPException(404, "no such group")
    try:
        stored = one.rollouts.group(number, group)
    except OSError as error:  # a resumed run has just removed this round
        raise HTTPException(404, "this round is no longer there") from error
    if not stored:
        raise HTTPException(404, "no such group")
    return stored


async def _changes(shown: Sequence[Shown], request: Request) -> AsyncIterator[str]:
    """An event `change` with the numbers of the runs that changed, whenever some did."""
    before = [await asyncio.to_thread(_fingerprint, one) for one in shown]
    yield "event: hello\ndata: {}\n\n"
    quiet = 0.0
    while not await request.is_disconnected():
        await asyncio.sleep(LOOK)
        now = [await asyncio.to_thread(_fingerprint, one) for one in shown]
        changed = [number for number, (old, new) in enumerate(zip(before, now, strict=True)) if old != new]
        before, quiet = now, 0.0 if changed else quiet + LOOK
        if changed:
            yield f"event: change\ndata: {json.dumps(changed)}\n\n"
        elif quiet >= ALIVE:
            quiet = 0.0
            yield ": alive\n\n"


def _fingerprint(one: Shown) -> list[tuple[int, int]]:
    """What changes when the run does: times and sizes alone, so that looking costs nothing."""
    found = []
    for path in one.run.watched():
        try:
            state = path.stat()
        except OSError:
            continue
        found.append((state.st_mtime_ns, state.st_size))
    return found


def _json(value: Any) -> Response:
    """JSON in ASCII: numbers that are not finite as null, and text that is no valid Unicode as escapes."""
    return Response(json.dumps(_finite(value), allow_nan=False, default=str), media_type="application/json")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


def _plain(text: str) -> Response:
    return PlainTextResponse(text.encode("utf-8", "replace"))
