"""A supervisor with its worker, as the run holds them: how they are started, and how they end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from typing import Any

from grandrounds.rewards.workers.last_lines import LastLines

# How long a supervisor has to end its worker, and a worker to end by itself.
GRACE_SECONDS = 1.0
# A fresh interpreter that finds the same modules as this one. Its arguments: the path, and those of `supervisor.main`.
_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from grandrounds.rewards.workers.supervisor import main; main(*sys.argv[2:])"
)


class Processes:
    """A running supervisor and worker. connection: to the worker. output: what the worker prints."""

    def __init__(self, memory_gb: float) -> None:
        self.connection, theirs = socket.socketpair()
        readable, writable = os.pipe()
        arguments = [
            json.dumps([str(place) for place in sys.path]),
            str(theirs.fileno()),
            str(os.getpid()),
            str(memory_gb),
        ]
        with theirs:
            self._supervisor = subprocess.Popen(
                [sys.executable, "-c", _BOOT, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=writable,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C is for the run alone
            )
        os.close(writable)
        self.output = LastLines(readable)
        self._run, self._ending = os.getpid(), threading.Lock()
        self._account: dict[str, Any] | None = None

    def end(self, seconds: float = 0.0) -> dict[str, Any]:
        """Wait so long for the worker to end by itself, or end it. Returns the supervisor's account of its end."""
        if os.getpid() != self._run:  # a process that was forked off the run
            return {}
        with self._ending:
            if self._account is None:
                self._account = self._end(seconds)
            return self._account

    def _end(self, seconds: float) -> dict[str, Any]:
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)  # a worker that waits for a call ends here
        if not self._ends_within(seconds):
            self._supervisor.terminate()
            if not self._ends_within(GRACE_SECONDS):
                self._supervisor.kill()  # and the kernel ends the worker
                self._supervisor.wait()
        self.connection.close()
        assert self._supervisor.stdout is not None
        with self._supervisor.stdout as account:
            try:
                return dict(json.loads(account.read()))
            except ValueError:  # somebody else has killed the supervisor
                return {"signal": int(signal.SIGKILL)}

    def _ends_within(self, seconds: float) -> bool:
        try:
            self._supervisor.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True
