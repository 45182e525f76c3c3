"""Messages between a run and a worker: eight bytes of length, then so many bytes.

The run sends pickles to its own worker. What the worker sends back is JSON, and is never unpickled.
"""

from __future__ import annotations

import json
import math
import socket
import struct
import time
from typing import Any

_LENGTH = struct.Struct(">Q")
# Scores and what is logged of one group take a thousandth of this.
LARGEST_REPLY = 64 * 2**20
_CHUNK = 2**20


class Closed(Exception):
    """The other side is gone."""


class TooLarge(Exception):
    """The other side announces more than is read."""


def send(connection: socket.socket, data: bytes, until: float | None = None) -> None:
    """Send one message. Closed where nobody reads any more, TimeoutError where nobody reads before `until`."""
    try:
        _limit(connection, until)
        connection.sendall(_LENGTH.pack(len(data)))
        _limit(connection, until)
        connection.sendall(data)
    except TimeoutError:
        raise
    except OSError as error:
        raise Closed from error


def receive(connection: socket.socket, until: float | None = None, largest: float = math.inf) -> bytes:
    """The next message. Closed where there is none to come, TimeoutError where none is complete before `until`."""
    (size,) = _LENGTH.unpack(_exactly(connection, _LENGTH.size, until))
    if size > largest:
        raise TooLarge(f"a message of {size:,} bytes")
    return _exactly(connection, size, until)


def receive_json(connection: socket.socket, until: float | None) -> Any:
    """The worker's next message. ValueError where it is no JSON."""
    return json.loads(receive(connection, until, LARGEST_REPLY))


def _exactly(connection: socket.socket, size: int, until: float | None) -> bytes:
    parts = []
    while size:
        try:
            _limit(connection, until)
            part = connection.recv(min(size, _CHUNK))
        except TimeoutError:
            raise
        except OSError as error:
            raise Closed from error
        if not part:
            raise Closed
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _limit(connection: socket.socket, until: float | None) -> None:
    # A timeout of 0 would mean "do not wait", and fail even where all is there.
    connection.settimeout(None if until is None else max(until - time.monotonic(), 1e-3))
