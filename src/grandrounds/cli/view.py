"""The command `view`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def view_runs(runs: Sequence[Path], host: str, port: int, browser: bool) -> None:
    """Serve the page with these runs until Ctrl-C."""
    from grandrounds.view.serving import serve
    from grandrounds.web.guarding import is_loopback

    if not is_loopback(host):
        print(f"Warning: whoever reaches {host} can read these runs; there is no password.", flush=True)
    serve(
        runs,
        host=host,
        port=port,
        browser=browser,
        told=lambda address: print(f"{address}   stop: Ctrl-C", flush=True),
    )
