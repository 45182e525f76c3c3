"""The page beside a training: a process of its own that only reads, so that it can neither slow nor stop the run.

python -m grandrounds.view.watching RUN       serves until its standard input is closed
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from grandrounds.errors import GrandRoundsError

_FAILED = "The page could not be started; training goes on without it"


@contextmanager
def watched(run: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Serve the run's page while the block runs. `say` gets the address once, or why there is none."""
    try:
        page = subprocess.Popen(
            [sys.executable, "-m", "grandrounds.view.watching", str(run)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # A Ctrl-C in the terminal is for the training alone. One thread reads: the others are the training's.
            start_new_session=True,
            env={**os.environ, "POLARS_MAX_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        )
    except OSError as error:
        say(f"{_FAILED}: {error.strerror}")
        yield
        return
    threading.Thread(target=_tell, args=(page, say), daemon=True).start()
    try:
        yield
    finally:
        _close(page)


def _tell(page: subprocess.Popen[bytes], say: Callable[[str], None]) -> None:
    assert page.stdout is not None
    line = page.stdout.readline().decode("utf-8", "replace").strip()
    say(line or f"{_FAILED}.")
    while page.stdout.readline():  # so that the pipe never fills
        pass


def _close(page: subprocess.Popen[bytes]) -> None:
    assert page.stdin is not None
    with suppress(OSError):
        page.stdin.close()
    try:
        page.wait(timeout=5)
    except subprocess.TimeoutExpired:
        page.kill()
        page.wait()


def _until_closed() -> None:
    """End this process when whoever started it has gone, even if it was killed."""
    with suppress(OSError, ValueError):
        sys.stdin.buffer.read()
    os._exit(0)


def main() -> None:
    """Serve one run's page for `watched`."""
    from grandrounds.view.serving import serve

    if hasattr(os, "nice"):
        os.nice(10)
    threading.Thread(target=_until_closed, daemon=True).start()
    run = Path(sys.argv[1])
    try:
        serve([run], waiting=True, told=lambda address: print(f"Watch it on {address}", flush=True))
    except GrandRoundsError as error:
        print(f"{_FAILED}: {error.what}. {error.hint}", flush=True)


if __name__ == "__main__":
    main()
