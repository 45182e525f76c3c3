"""Reads the body of a request, within limits."""

from __future__ import annotations

import asyncio

from fastapi import Request

from grandrounds.serve.errors import ApiError

# A body must be there after so many seconds.
BODY_SECONDS = 30


async def body_of(request: Request, most: int) -> bytes:
    """The body. ApiError for one that is too large, too slow, or not said to be JSON."""
    # A page elsewhere may send a form or plain text to this machine without being asked whether it may.
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise ApiError(415, "Send JSON, and say so: `Content-Type: application/json`.")
    too_large = ApiError(413, f"The body is larger than {most} bytes.", code="body_too_large")
    announced = request.headers.get("content-length", "0")
    if announced.isdigit() and int(announced) > most:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                body += part
                if len(body) > most:
                    raise too_large
    except TimeoutError:
        raise ApiError(408, "The body did not arrive in time.") from None
    return bytes(body)
