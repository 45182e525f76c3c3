"""Runs programs that nobody has read: without network and files of yours, within limits, and with one end for all.

What is kept out depends on the runtime (`runtimes.py`). With bubblewrap: the network, all files but Python's own
(read-only) and a private /tmp in memory, other processes, the environment. Kept within limits: time, resident memory
and number of all processes together, size of files, output. Not defended against: faults of the kernel, of bubblewrap
or of the container runtime; a program that only keeps a processor busy until its time is over; shared memory (System V)
that no process holds, which is freed when the sandbox ends.
"""

from __future__ import annotations

import json
import os
import secrets
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from grandrounds.domains.code.runtimes import Command, Limits, Runtime
from grandrounds.errors import RewardError
from grandrounds.rewards.workers.tree import descendants, resident_bytes

_INSIDE = Path(__file__).with_name("inside.py").read_text(encoding="utf-8")
TICK_SECONDS = 0.02
# bubblewrap's own two processes, a container's client with its threads.
_OVERHEAD = 4
_CHUNK = 2**16


@dataclass(frozen=True)
class Outcome:
    """How a program ended.

    code: its exit code, negative for a signal; None where it was ended. cause: "" where it ended by itself with code 0.
    stdout, stderr: what it printed, up to the limit.
    """

    code: int | None
    cause: str
    stdout: bytes
    stderr: bytes

    @property
    def ended_well(self) -> bool:
        """It ended by itself with exit code 0. That alone says nothing about whether it is right."""
        return not self.cause


class Sandboxed:
    """A program in a sandbox, which reads its text from `stdin`; what follows there is its own standard input."""

    def __init__(
        self,
        runtime: Runtime,
        limits: Limits,
        *,
        stdin: int | IO[bytes] = subprocess.PIPE,
        stdout: int = subprocess.PIPE,
    ) -> None:
        self._runtime, self._mark = runtime, secrets.token_hex(16)
        self._command: Command = runtime.command(limits)
        self.process = subprocess.Popen(
            [*self._command.line, "-I", "-B", "-c", _INSIDE, json.dumps(asdict(limits)), self._mark],
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.PIPE,
            env=self._command.environment,
            cwd=tempfile.gettempdir(),  # Podman leaves a file named `oom` where it is called
            start_new_session=True,
        )

    def end(self) -> None:
        """Kill it with all its processes. With it, bubblewrap ends its namespace, and so everything in it."""
        children = descendants(self.process.pid)
        with suppress(OSError):
            os.killpg(self.process.pid, signal.SIGKILL)
        for pid in children:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        if self._command.end:
            subprocess.run(self._command.end, capture_output=True, check=False)
        self.process.wait()

    def errors(self, stderr: bytes) -> bytes:
        """What the program wrote on standard error. RewardError where the sandbox had not started: nothing is known of
        the program then, and it is no failure of its."""
        mark = self._mark.encode()
        if stderr.startswith(mark):
            return stderr[len(mark) :]
        last = (stderr.decode("utf-8", "replace").strip().splitlines() or ["it says nothing"])[-1][:200]
        raise RewardError(
            f"the sandbox did not start: {last}",
            where=self._runtime.name,
            hint="Look whether the machine has memory and processes left, then resume.",
        )

    def excess(self, limits: Limits) -> str:
        """What it has too much of, or ""."""
        pids = descendants(self.process.pid)
        if len(pids) > limits.processes + _OVERHEAD:
            return f"started more than {limits.processes} processes"
        if sum(map(resident_bytes, pids)) > limits.memory_mb * 2**20:
            return f"needs more than {limits.memory_mb} MB of memory"
        return ""


def message(program: str) -> bytes:
    """A program as `inside.py` reads it."""
    data = program.encode("utf-8", "surrogatepass")
    return len(data).to_bytes(8, "big") + data


def run(runtime: Runtime, program: str, stdin: bytes = b"", limits: Limits = Limits()) -> Outcome:  # noqa: B008 - frozen
    """Run a Python program with this standard input. RewardError where the sandbox does not start; nothing that the
    program does raises."""
    running = Sandboxed(runtime, limits)
    process = running.process
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    printed: dict[IO[bytes], bytearray] = {process.stdout: bytearray(), process.stderr: bytearray()}
    cause = watch([running], printed, {process.stdin: message(program) + stdin}, limits)
    code = None if cause else process.returncode
    out, err = bytes(printed[process.stdout]), running.errors(bytes(printed[process.stderr]))
    return Outcome(code, cause or _cause_of(process.returncode, err), out, err)


def _cause_of(code: int, stderr: bytes) -> str:
    if code == 0:
        return ""
    last = (stderr.decode("utf-8", "replace").strip().splitlines() or [""])[-1][:200]
    return f"exited with code {code}" + (f": {last}" if last else "")


def watch(
    running: Sequence[Sandboxed],
    sinks: Mapping[IO[bytes], bytearray],
    feeds: Mapping[IO[bytes], bytes],
    limits: Limits,
) -> str:
    """Feed and read until the first of them has ended by itself, or one has had too much of something: the cause of
    that, or "". Afterwards none of their processes is left, and all these files are closed."""
    pipes = _Pipes(sinks, feeds, limits.output_kb * 2**10)
    until, cause = time.monotonic() + limits.seconds, ""
    try:
        while not cause and running[0].process.poll() is None:
            cause = pipes.move(TICK_SECONDS)
            cause = cause or next((found for one in running if (found := one.excess(limits))), "")
            if not cause and time.monotonic() > until:
                cause = f"took longer than {limits.seconds:g} s"
    finally:
        for one in running:
            one.end()
        pipes.drain()
        pipes.close()
    return cause


class _Pipes:
    """Feeds some files and reads others, without ever waiting for one of them."""

    def __init__(
        self, sinks: Mapping[IO[bytes], bytearray], feeds: Mapping[IO[bytes], bytes], most: int
    ) -> None:
        self._sinks, self._rest, self._most = (
            sinks,
            {file: memoryview(data) for file, data in feeds.items()},
            most,
        )
        self._selector = selectors.DefaultSelector()
        for file in (*sinks, *feeds):
            os.set_blocking(file.fileno(), False)
            self._selector.register(file, selectors.EVENT_READ if file in sinks else selectors.EVENT_WRITE)

    def move(self, seconds: float) -> str:
        """Wait so long for something to read or write, and do it. "", or that somebody printed too much."""
        for key, _ in self._selector.select(seconds):
            file: Any = key.fileobj
            done = self._read(file) if file in self._sinks else self._write(file)
            if done:
                self._selector.unregister(file)
                file.close()
            if len(self._sinks.get(file, b"")) > self._most:
                return f"printed more than {self._most // 2**10} kB"
        return ""

    def _read(self, file: IO[bytes]) -> bool:
        part = os.read(file.fileno(), _CHUNK)
        self._sinks[file].extend(part)
        return not part

    def _write(self, file: IO[bytes]) -> bool:
        rest = self._rest[file]
        try:
            self._rest[file] = rest = rest[os.write(file.fileno(), rest[:_CHUNK]) :]
        except OSError:  # nobody reads any more
            return True
        return not rest

    def drain(self) -> None:
        """Read what is left of programs that have ended."""
        while self._selector.get_map() and self._selector.select(0):
            if self.move(0):
                return

    def close(self) -> None:
        """Close all files."""
        self._selector.close()
        for file in (*self._sinks, *self._rest):
            file.close()
