"""The command `serve`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from grandrounds.errors import RunError
from grandrounds.serve.options import ServeOptions, require_packages


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
            f"there is no engine `{engine}`",
            where="--engine",
            hint="The native engine serves. A checkpoint is a folder in the Hub's layout, which vLLM can serve itself: "
            "vllm serve RUN/checkpoints/NNNNNN",
        )
    require_packages()
    from grandrounds.cli.train import quiet_libraries
    from grandrounds.serve.run import read_key, serve

    quiet_libraries()
    serve(policies, replace(options, api_key=read_key(key_file)), overrides)
