"""The command `serve`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from grandrounds.errors import RunError
from grandrounds.serve.options import ServeOptions
from grandrounds.web.port import require_packages

PACKAGES = ("fastapi", "uvicorn")


def serve_policies(
    policies: Sequence[str],
    options: ServeOptions,
    key_file: Path | None,
    engine: str,
    overrides: Sequence[str],
) -> None:
    """Serve policies until Ctrl-C."""
    if engine != "native":
        raise RunError(
            f"this server cannot decode by {engine}",
            where=f"--engine {engine}",
            hint="Leave --engine out. Or serve a checkpoint that holds a whole model by vLLM's own server: "
            "`vllm serve RUN/checkpoints/NNNNNN`. That holds no response to its form.",
        )
    require_packages(PACKAGES, "serve")
    from grandrounds.cli.train import quiet_libraries
    from grandrounds.serve.run import read_key, serve

    quiet_libraries()
    serve(policies, replace(options, api_key=read_key(key_file)), overrides, partial(print, flush=True))
