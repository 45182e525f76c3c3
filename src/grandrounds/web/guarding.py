"""What keeps the page to its reader: which Host headers are answered, and what a page may load."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import Any

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
LOCALHOST = "localhost"
# The page loads what this server has, and nothing else; no other page may frame it.
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the host."""
    return host.lower() == LOCALHOST or _is(host, loopback=True)


def _is(host: str, *, loopback: bool) -> bool:
    try:
        return ip_address(host).is_loopback or not loopback
    except ValueError:  # a name
        return False


def host_of(header: str) -> str:
    """The host of a Host header, without its port: "127.0.0.1:8000" -> "127.0.0.1", "[::1]:80" -> "::1"."""
    if header.startswith("["):
        return header[1:].partition("]")[0].lower()
    return header.rpartition(":")[0].lower() if ":" in header else header.lower()


def answers(header: str, bound: str) -> bool:
    """Whether a request with this Host header is answered by a server bound to `bound`.

    A page of somebody else's, whose name was made to point at this machine (DNS rebinding), sends its own name. So on
    loopback only loopback's names are answered; elsewhere also addresses, the name bound to, and this machine's.
    """
    host = host_of(header)
    if is_loopback(host):
        return True
    if is_loopback(bound):
        return False
    return _is(host, loopback=False) or host in {bound.lower(), socket.gethostname().lower()}


class Guarded:
    """ASGI middleware: refuses other hosts' names, and adds `HEADERS` to every response."""

    def __init__(self, app: Any, host: str) -> None:
        self.app, self.host = app, host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        header = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
        if not answers(header, self.host):
            from starlette.responses import PlainTextResponse

            await PlainTextResponse("This name is not served here.\n", 421)(scope, receive, send)
            return

        async def with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                own = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", []), *own]}
            await send(message)

        await self.app(scope, receive, with_headers)
