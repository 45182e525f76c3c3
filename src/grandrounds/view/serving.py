"""Serves the page on a port of this machine until it is stopped."""

from __future__ import annotations

import threading
import webbrowser
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from grandrounds.view.run import names_of, open_run
from grandrounds.web.port import address_of, bound, require_packages

PACKAGES = ("fastapi", "uvicorn", "polars")


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
    require_packages(PACKAGES, "view")
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
