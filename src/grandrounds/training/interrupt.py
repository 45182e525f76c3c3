"""Ctrl-C: the first lets the run finish its round or SFT step and save; the second stops it at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
MESSAGE = b"\nStopping after this round; then the run is saved. Press Ctrl-C again to stop at once.\n"


@dataclass
class Interrupt:
    """Whether the user asked the run to stop."""

    requested: bool = False


@contextmanager
def interruptible() -> Iterator[Interrupt]:
    """Within the block SIGINT and SIGTERM set `requested`; a second one raises KeyboardInterrupt.

    In a thread other than the main one, where Python allows no signal handlers, no signal is handled.
    """
    interrupt = Interrupt()

    def handle(number: int, frame: FrameType | None) -> None:
        if interrupt.requested:
            raise KeyboardInterrupt
        interrupt.requested = True
        # Not print: the signal may interrupt another write to the same stream.
        os.write(2, MESSAGE)

    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    before = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
