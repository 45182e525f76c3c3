"""Starts the server and runs it until it is stopped."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from grandrounds.errors import RunError
from grandrounds.serve.options import ServeOptions, require_packages
from grandrounds.training.target import open_target

API_KEY = "GRANDROUNDS_API_KEY"


def serve(
    policies: Sequence[str],
    options: ServeOptions,
    overrides: Sequence[str] = (),
    say: Callable[[str], None] = print,
) -> None:
    """Serve policies until Ctrl-C. say: is told what is served, and where.

    Raises the `GrandRoundsError` family.
    """
    require_packages()
    options.check()
    import uvicorn

    from grandrounds.serve.app import build_app
    from grandrounds.serve.served import load_served

    targets = [open_target(policy, overrides) for policy in policies]
    with listening(options) as listener:
        served = load_served(targets, options)
        app = build_app(served, options)
        for target in targets:
            policy = served[target.name].policy
            say(f"{target.name}: {target.model}, {policy.precision} on {policy.device.type}")
        host, port = options.host, listener.getsockname()[1]
        address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        say(f"OpenAI's API: {address}/v1   playground: {address}/   stop: Ctrl-C")
        config = uvicorn.Config(
            app,
            log_level="error",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=5,
            limit_concurrency=4 * (options.max_queue + options.max_rows),
        )
        uvicorn.Server(config).run(sockets=[listener])


def listening(options: ServeOptions) -> socket.socket:
    """A socket on the address. RunError where it cannot be had."""
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((options.host, options.port))
    except OSError as error:
        listener.close()
        raise RunError(
            f"cannot listen there: {error.strerror}",
            where=f"{options.host}:{options.port}",
            hint="Choose another --port (0 takes a free one) or --host.",
        ) from error
    return listener


def read_key(file: Path | None) -> str | None:
    """The API key: the file's text, or the environment's. RunError for a file without one."""
    if file is None:
        return os.environ.get(API_KEY) or None
    try:
        key = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(
            "the file with the API key cannot be read", where=str(file), hint="Check the path."
        ) from error
    if not key or not key.isascii() or any(character.isspace() for character in key):
        raise RunError(
            "the file must hold one key, a word of ASCII", where=str(file), hint="Write one into it."
        )
    return key
