"""The run's side of a worker: sends calls, and says what became of those that have no result."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from grandrounds.errors import RewardError
from grandrounds.rewards.user import LOGGERS, Signature
from grandrounds.rewards.workers.frames import Closed, TooLarge, receive_json, send
from grandrounds.rewards.workers.processes import GRACE_SECONDS, Processes

# Workers are forked. Where that is impossible, users' functions run in threads of the run.
AVAILABLE = hasattr(os, "fork")
# Importing a user's file may load a model.
LOAD_SECONDS = 600.0
# How long the account of a death may take: the supervisor gives it at once, on a machine that has time for it.
ACCOUNT_SECONDS = 5.0
HINT = "Correct the reward function, or return None for samples it does not apply to."


class Failed(Exception):
    """A call has no result. The text goes on from "the reward": "exited with code 3".

    place: file and line, or "". printed: the last lines that the function printed.
    """

    def __init__(self, cause: str, hint: str, place: str = "", printed: str = "") -> None:
        super().__init__(cause)
        self.hint, self.place, self.printed = hint, place, printed


class Worker:
    """A user's function in a process of its own, which lives until `close`, or until this object is forgotten.

    Calls come one after another. After a worker has died, the next call starts a new one and loads the function again.
    key: the component's place in the recipe, for hints.
    """

    def __init__(self, key: str, use: str, options: Mapping[str, Any], base: Path, memory_gb: float) -> None:
        """Start the process and load the function. RewardError where there is none, or it does not take the options."""
        self._key, self.use, self._memory_gb = key, use, memory_gb
        self._asked = pickle.dumps({"use": use, "options": dict(options), "base": base})
        self._calling, self._changing = threading.Lock(), threading.Lock()
        self._processes: Processes | None = None
        self._finalizer: weakref.finalize[Any, Worker] | None = None
        self._closed = False
        self.source = use
        self.signature = self._started()

    def call(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], size: int, seconds: float
    ) -> dict[str, Any]:
        """What the worker replies to one call for `size` samples. Raises Failed or RewardError."""
        values = {name: value for name, value in kwargs.items() if name not in LOGGERS}
        loggers = [name for name in LOGGERS if name in kwargs]
        try:
            message = pickle.dumps({"args": args, "kwargs": values, "loggers": loggers, "size": size})
        except Exception as error:  # whatever an object's own pickling raises
            raise RewardError(
                f"what the cases hold cannot be sent to the function's process: {error}",
                where=self.source,
                hint="Keep to texts, numbers, lists and mappings; or pass the function to `train` as an object.",
            ) from error
        with self._calling:
            if self._processes is None:
                self._started()
            return self._ask(message, seconds)

    def close(self) -> None:
        """End the process. One that waits for a call ends by itself, so that its own clean-up runs."""
        with self._changing:
            self._closed, processes = True, self._processes
        if processes is not None:
            processes.end(GRACE_SECONDS)

    def _started(self) -> Signature:
        """Start the process and load the function."""
        with self._changing:
            if self._closed:
                raise RewardError("the run has ended", where=self._key, hint="Start it again.")
            self._processes = processes = Processes(self._memory_gb)
        # Also where nobody calls `close`: when the worker is forgotten, and at the end of the program.
        self._finalizer = weakref.finalize(self, processes.end, GRACE_SECONDS)
        try:
            reply = self._ask(self._asked, LOAD_SECONDS)
        except Failed as error:
            self._end()
            raise RewardError(
                f"it cannot be loaded: importing it {error}",
                where=error.place or self.use,
                hint="Correct what runs when the file is imported.",
            ) from error
        except RewardError:
            self._end()
            raise
        self.source = str(reply["source"])
        return Signature(**reply["signature"])

    def _ask(self, message: bytes, seconds: float) -> dict[str, Any]:
        processes, until = self._processes, time.monotonic() + seconds
        assert processes is not None
        try:
            send(processes.connection, message, until)
            reply = receive_json(processes.connection, until)
        except TimeoutError:
            self._end()
            raise Failed(
                f"gave no result after {seconds:g} seconds, and was killed",
                f"Make it faster, or raise {self._key}.timeout_seconds.",
                printed=processes.output.text(),
            ) from None
        except Closed:
            cause, hint = self._cause(self._end(ACCOUNT_SECONDS))
            printed = processes.output.text()
            raise Failed(cause, hint, processes.output.crashed_at(self.source), printed) from None
        except (TooLarge, ValueError) as error:
            self._end()
            raise Failed(f"sent {error} instead of scores", HINT, printed=processes.output.text()) from None
        if "error" in reply:
            raise RewardError(**reply["error"])
        if "raised" in reply:
            raise Failed(f"raised {reply['raised']}", HINT, reply["place"], processes.output.text())
        return dict(reply)

    def _end(self, seconds: float = 0.0) -> dict[str, Any]:
        """End the process, so that the next call starts a new one. Returns how it ended."""
        processes, self._processes = self._processes, None
        if processes is None:
            return {}
        if self._finalizer is not None:
            self._finalizer.detach()
        return processes.end(seconds)

    def _cause(self, ended: Mapping[str, Any]) -> tuple[str, str]:
        """How a worker ended, and what to do about it."""
        if "memory" in ended:
            cause = f"needs more than {self._memory_gb:g} GiB of memory, and was killed"
            return cause, f"Let it need less, or raise {self._key}.memory_gb."
        if "code" in ended:
            return f"exited with code {ended['code']}", "Return scores instead of ending the process."
        if ended.get("signal") == signal.SIGKILL:
            return "was killed: signal SIGKILL", "Free memory: it is what a system without any does."
        if "signal" in ended:
            named = signal.Signals(ended["signal"]).name
            return f"crashed: signal {named}", "Look for the library that it called there."
        return "closed the connection to its run", "Leave files alone that it has not opened."
