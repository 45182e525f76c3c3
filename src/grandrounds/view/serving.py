"""Serves the page on a port of this machine until it is stopped."""

from __future__ import annotations

import importlib.util
import socket
import threading
import webbrowser
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from grandrounds.errors import RunError
from grandrounds.view.run import names_of, open_run

PACKAGES = ("fastapi", "uvicorn", "polars")


def require_packages() -> None:
    """RunError where the extra `view` is not installed."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise RunError(
            f"the page needs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed",
            where="grandrounds view",
            hint="pip install 'grandrounds[view]'",
        )


def serve(
    paths: Sequence[Path],
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    browser: bool = False,
    waiting: bool = False,
    told: Callable[[str], None] = print,
) -> None:
    """Serve the page with these runs until Ctrl-C. port 0: any free one. waiting: the run may not have begun yet.

    told: gets the address once, when the port is open. RunError where a folder holds no run or the port cannot be had.
    """
    require_packages()
    runs = [open_run(path, waiting=waiting) for path in paths]
    import uvicorn

    from grandrounds.view.app import make_app

    listening = bound(host, port)
    app = make_app(dict(zip(names_of(paths), runs, strict=True)), host)
    server = uvicorn.Server(
        # A page left open keeps its stream of events: it does not delay the end.
        uvicorn.Config(app, log_level="critical", access_log=False, timeout_graceful_shutdown=1)
    )
    address = address_of(host, listening.getsockname()[1])
    threading.Thread(target=app.state.read_ahead, daemon=True).start()
    told(address)
    if browser:
        threading.Timer(0.3, webbrowser.open, [address]).start()
    with suppress(KeyboardInterrupt):
        server.run(sockets=[listening])


def bound(host: str, port: int) -> socket.socket:
    """A listening socket. RunError where the host or the port cannot be had."""
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        if not hasattr(
            socket, "SO_EXCLUSIVEADDRUSE"
        ):  # elsewhere than on Windows, where it would share the port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(where)
        listening.listen(128)
    except (OSError, OverflowError) as error:
        raise RunError(
            f"the page cannot be served there: {error}",
            where=f"{host}:{port}",
            hint="Choose another --port, or leave it out for a free one; --host is an address of this machine.",
        ) from error
    return listening


def address_of(host: str, port: int) -> str:
    """The address to open in a browser."""
    if host in ("0.0.0.0", "::", ""):
        host = "localhost"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"
