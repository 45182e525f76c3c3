"""Calls users' code with a time limit.

A Python function that hangs cannot be stopped, but the run can go on without it: it runs in a daemon thread, which
keeps neither the run nor the process waiting. Coroutines share one event loop as long as the run lasts, so that clients
opened in one call can be used in the next.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any


class Timeout(Exception):
    """A call exceeded its time limit."""


def start(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Future[Any]:
    """Run a plain function in a new daemon thread."""
    future: Future[Any] = Future()

    def run() -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(function(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        # sys.exit() in a user's function is an error of the reward. It must not end the run silently.
        except BaseException as error:
            named = RuntimeError(f"{type(error).__name__}: {error}")
            future.set_exception(named.with_traceback(error.__traceback__))

    threading.Thread(target=run, daemon=True, name="reward").start()
    return future


class Loop:
    """An event loop in a daemon thread, which starts at the first use."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._starting = threading.Lock()

    def start(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Future[Any]:
        """Run a coroutine function in the loop."""
        with self._starting:
            loop = self._loop
            if loop is None:
                loop = self._loop = asyncio.new_event_loop()
                threading.Thread(target=loop.run_forever, daemon=True, name="reward loop").start()
        return asyncio.run_coroutine_threadsafe(function(*args, **kwargs), loop)

    def abandon(self) -> None:
        """Give up a loop that a coroutine may block. The next call starts a new one."""
        self._loop = None


def wait(future: Future[Any], seconds: float) -> Any:
    """The result. Raises what the call raised, or Timeout."""
    try:
        return future.result(timeout=seconds)
    except FutureTimeoutError as error:
        if future.done():
            raise  # the function itself raised a TimeoutError
        future.cancel()
        raise Timeout(f"no result after {seconds:g} seconds") from error
