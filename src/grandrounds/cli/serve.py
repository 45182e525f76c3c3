"""The command `serve`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from grandrounds.serve.options import ServeOptions
from grandrounds.web.port import require_packages

PACKAGES = ("fastapi", "uvicorn")


def serve_policies(
    policies: Sequence[str],
    options: ServeOptions,
    key_file: Path | None,
    overrides: Sequence[str],
) -> None:
    """Serve policies until Ctrl-C."""
    require_packages(PACKAGES, "serve")
    from grandrounds.cli.train import quiet_libraries
    from grandrounds.serve.run import read_key, serve

    quiet_libraries()
    serve(policies, replace(options, api_key=read_key(key_file)), overrides, partial(print, flush=True))
