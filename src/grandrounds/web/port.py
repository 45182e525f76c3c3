"""A port of this machine, and the packages that a server needs."""

from __future__ import annotations

import importlib.util
import socket
from collections.abc import Sequence

from grandrounds.errors import RunError


def require_packages(packages: Sequence[str], command: str) -> None:
    """RunError where a package of the command's extra, which has its name, is not installed."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise RunError(
            f"this needs {' and '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed",
            where=f"grandrounds {command}",
            hint=f"pip install 'grandrounds[{command}]'",
        )


def bound(host: str, port: int) -> socket.socket:
    """A listening socket. RunError where the host or the port cannot be had."""
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        # Not on Windows, where it would share the port with others.
        if not hasattr(socket, "SO_EXCLUSIVEADDRUSE"):
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(where)
        listening.listen(128)
    except (OSError, OverflowError) as error:
        raise RunError(
            f"nothing can be served there: {error}",
            where=f"{host}:{port}",
            hint="Choose another --port, 0 for a free one; --host is an address of this machine.",
        ) from error
    return listening


def address_of(host: str, port: int) -> str:
    """The address to open in a browser."""
    if host in ("0.0.0.0", "::", ""):
        host = "localhost"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"
