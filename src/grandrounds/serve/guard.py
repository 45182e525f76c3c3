"""Asks every request for the API key, but those for the page's own files."""

from __future__ import annotations

import hmac
from collections.abc import Container
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from grandrounds.serve.errors import ApiError


class KeyGuard:
    """ASGI middleware: refuses requests without the key. free: paths that need none."""

    def __init__(self, app: Any, key: str, free: Container[str]) -> None:
        self._app, self._key, self._free = app, key.encode(), free

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with status 401."""
        if scope["type"] != "http" or scope["path"] in self._free or self._knows(Headers(scope=scope)):
            return await self._app(scope, receive, send)
        error = ApiError(
            401,
            "Wrong or missing API key. Send it as `Authorization: Bearer KEY`.",
            code="invalid_api_key",
            headers={"WWW-Authenticate": "Bearer"},
        )
        return await error_response(error)(scope, receive, send)

    def _knows(self, headers: Headers) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(given.encode(), self._key)


def error_response(error: ApiError) -> JSONResponse:
    """The error as a response."""
    return JSONResponse(error.body, status_code=error.status, headers=error.headers)
