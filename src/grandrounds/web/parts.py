"""The files that a page is made of, each under an address of its own. Nothing else on the disk has one."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, partial
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi import FastAPI, Request, Response

TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
Place = tuple[str, ...]  # a package, and the path in it
# What every page has.
SHARED: dict[str, Place] = {
    "web.css": ("grandrounds.web", "static", "web.css"),
    "dom.js": ("grandrounds.web", "static", "dom.js"),
    "icon.svg": ("grandrounds.web", "static", "icon.svg"),
}


def add_parts(app: FastAPI, parts: Mapping[str, Place]) -> None:
    """Serve these files and those that every page has. parts: address without its slash -> where the file is."""
    for name, place in {**SHARED, **parts}.items():
        app.add_route(f"/{name}", partial(_response, place), methods=["GET"])


def _response(place: Place, request: Request) -> Response:
    from fastapi import Response

    return Response(_content(place), media_type=TYPES[place[-1].rpartition(".")[2]])


@cache
def _content(place: Place) -> bytes:
    package, *path = place
    return files(package).joinpath(*path).read_bytes()
