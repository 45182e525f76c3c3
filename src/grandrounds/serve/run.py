"""Starts the server and runs it until it is stopped."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from grandrounds.errors import RunError
from grandrounds.serve.options import ServeOptions
from grandrounds.training.target import open_target
from grandrounds.web.port import address_of, bound

API_KEY = "GRANDROUNDS_API_KEY"


def serve(
    policies: Sequence[str],
    options: ServeOptions,
    overrides: Sequence[str] = (),
    told: Callable[[str], None] = print,
) -> None:
    """Serve policies until Ctrl-C. told: gets what is served, and where, once requests are answered.

    Raises the `GrandRoundsError` family.
    """
    options.check()
    import uvicorn

    from grandrounds.serve.app import build_app
    from grandrounds.serve.served import load_served

    targets = [open_target(policy, overrides) for policy in policies]
    # The port is taken first: loading may take long, and what comes meanwhile waits for it.
    with bound(options.host, options.port) as listening:
        served = load_served(targets, options)
        app = build_app(served, options)
        for target in targets:
            told(f"{target.name}: {target.model}, {served[target.name].engine.description}")
        address = address_of(options.host, listening.getsockname()[1])
        told(f"OpenAI's API: {address}v1")
        told(f"Playground: {address}   stop: Ctrl-C")
        config = uvicorn.Config(
            app,
            log_level="critical",  # its log would show messages of errors, which may quote what was asked
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=5,
            limit_concurrency=4 * (options.max_queue + options.max_rows),
        )
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listening])


def read_key(file: Path | None) -> str | None:
    """The API key: the file's text, or the environment's, or None. RunError for what is no key."""
    where = API_KEY if file is None else str(file)
    try:
        key = os.environ.get(API_KEY, "") if file is None else file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(
            "the file with the API key cannot be read", where=where, hint="Check the path."
        ) from error
    if file is None and not key:
        return None
    if not key or not key.isascii() or any(character.isspace() for character in key):
        raise RunError("the API key must be one word of ASCII", where=where, hint="Write such a key there.")
    return key
