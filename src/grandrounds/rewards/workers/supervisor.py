"""The process between a run and a worker. It forks the worker, watches it, and leaves none of its children behind.

It ends the worker when the worker's processes together hold more memory than allowed, when the run asks by SIGTERM, and
when the run is gone, by whatever signal. It watches the resident memory and does not limit the address space: CUDA,
torch and allocators with many threads reserve far more addresses than they use, and a failed allocation raises a
MemoryError that a function may catch, and go on with less.
"""

from __future__ import annotations

import io
import json
import os
import select
import signal
import socket
import sys
from typing import Any

from grandrounds.rewards.workers import tree
from grandrounds.rewards.workers.worker import serve

# How long a worker may hold too much, or outlive its run. A process fills about 0.1 GB in this time.
TICK_SECONDS = 0.05


def main(connection: str, run: str, memory_gb: str) -> None:
    """Fork the worker, watch it, and print as JSON how it ended. connection: the number of its socket's file."""
    tree.adopt_orphans()
    worker = os.fork()
    if worker == 0:
        _become_worker(int(connection))
        return
    os.close(int(connection))
    ended = _watch(worker, int(run), float(memory_gb) * 2**30)
    tree.end_children(worker)
    print(json.dumps(ended), flush=True)


def _become_worker(connection: int) -> None:
    os.setsid()  # a group of its own, to be ended as a whole; Ctrl-C is for the run alone
    tree.die_with_parent()
    tree.sacrifice_first()
    os.dup2(
        sys.stderr.fileno(), sys.stdout.fileno()
    )  # what it prints goes where the run keeps the last lines
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a crash must not take the last lines with it
            stream.reconfigure(line_buffering=True, errors="backslashreplace")
    os.set_inheritable(connection, False)
    with socket.socket(fileno=connection) as talking:
        serve(talking)


def _watch(worker: int, run: int, limit: float) -> dict[str, Any]:
    """Wait until the worker ends or must end: {"code": n}, {"signal": n}, {"memory": true}, or {} at the run's wish."""
    stopping: list[int] = []
    readable, woken = os.pipe()
    os.set_blocking(readable, False)
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, lambda number, frame: stopping.append(number))
    signal.signal(signal.SIGCHLD, lambda number, frame: None)  # only to wake up
    while True:
        while (ended := os.waitpid(-1, os.WNOHANG))[0] not in (0, worker):
            pass  # an adopted process that has ended
        if ended[0] == worker:
            code = os.waitstatus_to_exitcode(ended[1])
            return {"code": code} if code >= 0 else {"signal": -code}
        if stopping or os.getppid() != run:
            return {}
        if sum(map(tree.resident_bytes, tree.descendants(os.getpid()))) > limit:
            return {"memory": True}
        if select.select([readable], [], [], TICK_SECONDS)[0]:
            os.read(readable, 4096)
