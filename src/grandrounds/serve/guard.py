"""What stands before every request: names of this host, the key, and headers that keep pages to themselves."""

from __future__ import annotations

import hmac
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from grandrounds.serve.errors import ApiError
from grandrounds.serve.options import LOCAL_NAMES, ServeOptions, is_loopback

# Whoever may see the page may load it; what it asks for needs the key.
OPEN_PATHS = ("/", "/health")
OPEN_FOLDERS = ("/playground/static/",)
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


class Guard:
    """Refuses requests under foreign names of this host, and those without the key."""

    def __init__(self, app: Any, options: ServeOptions) -> None:
        self._app, self._options = app, options
        self._local = is_loopback(options.host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with an error."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)

        async def with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                ours = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *ours]}
            await send(message)

        error = self._refusal(Headers(scope=scope), scope["path"])
        if error is None:
            return await self._app(scope, receive, with_headers)
        return await error_response(error)(scope, receive, with_headers)

    def _refusal(self, headers: Headers, path: str) -> ApiError | None:
        # A page elsewhere can have its own name point at this machine, and then read what we answer.
        if self._local and _name_of(headers.get("host", "")) not in (*LOCAL_NAMES, self._options.host):
            return ApiError(403, "This server answers to the names of this machine only.", code="wrong_host")
        if self._options.api_key is None or path in OPEN_PATHS or path.startswith(OPEN_FOLDERS):
            return None
        given = headers.get("authorization", "").removeprefix("Bearer ").encode()
        if hmac.compare_digest(given, self._options.api_key.encode()):
            return None
        return ApiError(
            401,
            "Wrong or missing API key. Send it as `Authorization: Bearer KEY`.",
            code="invalid_api_key",
            headers={"WWW-Authenticate": "Bearer"},
        )


def _name_of(host: str) -> str:
    """The name without the port: "[::1]" of "[::1]:8000"."""
    return host[: host.rfind("]") + 1] if host.startswith("[") else host.partition(":")[0].lower()


def error_response(error: ApiError) -> JSONResponse:
    """The error as a response."""
    return JSONResponse(error.body, status_code=error.status, headers=error.headers)
