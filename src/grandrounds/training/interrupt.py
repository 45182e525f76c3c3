"""Ctrl-C: the first lets the run finish its round or SFT step and save; the second stops it at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass
class Interrupt:
    """Whether the user asked the run to stop."""

    requested: bool = False


@contextmanager
def interruptible(told: Callable[[], None]) -> Iterator[Interrupt]:
    """Within the block SIGINT and SIGTERM set `requested` and call `told`; a second one raises KeyboardInterrupt.

    In a thread other than the main one, where Python allows no signal handlers, no signal is handled.
    """
    interrupt = Interrupt()

    def handle(number: int, frame: FrameType | None) -> None:
        if interrupt.requested:
            raise KeyboardInterrupt
        interrupt.requested = True
        told()

    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    before = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
