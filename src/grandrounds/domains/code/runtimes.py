"""The ways to run a program apart from everything: bubblewrap, a container, or, if the recipe says so, hardly apart.

Each is a function from limits to the command line before `python`'s own arguments.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from grandrounds.errors import RewardError

PROBE_SECONDS = 20
IMAGE = "python:3-slim"
ISOLATED = (
    "--unshare-all --unshare-user --uid 65534 --gid 65534 --hostname sandbox "
    "--die-with-parent --new-session --cap-drop ALL"
)
CONTAINED = (
    "--rm --interactive --pull never --network none --read-only --workdir /tmp --user 65534:65534 --cap-drop ALL "
    "--security-opt no-new-privileges --ulimit nofile=64:64 --ulimit nproc=1024:1024 --ulimit core=0:0"
)
# Each arena of glibc's allocator reserves 64 MB of addresses, which count as memory here.
ENVIRONMENT = {"HOME": "/tmp", "LANG": "C.UTF-8", "PATH": "/usr/bin:/bin", "MALLOC_ARENA_MAX": "1"}


@dataclass(frozen=True)
class Limits:
    """What one program may take. seconds: of real time. memory_mb, processes: of all its processes together, threads
    counted as processes. file_mb: the largest file, and all files together. output_kb: what it may print."""

    seconds: float = 10.0
    memory_mb: int = 512
    processes: int = 32
    file_mb: int = 16
    output_kb: int = 1024


@dataclass(frozen=True)
class Command:
    """A command line that starts Python in a sandbox.

    environment: all that it is started with; None: as this process. end: a command that ends it, besides killing it.
    """

    line: tuple[str, ...]
    environment: Mapping[str, str] | None = None
    end: tuple[str, ...] = ()


@dataclass(frozen=True)
class Runtime:
    """A way to run Python apart. name: for messages. command: the start of a command line, for given limits."""

    name: str
    command: Callable[[Limits], Command]


def bubblewrap(limits: Limits) -> Command:
    """Namespaces of its own: no network, no other processes, no files but Python's and the linker's, read-only."""
    python = Path(sys.base_prefix).resolve()
    executable = Path(getattr(sys, "_base_executable", None) or sys.executable).resolve()
    # A Python of the system lies in /usr: its library is there already, and the rest is nobody's business.
    shown = executable if python == Path("/usr") else python
    line = [str(shutil.which("bwrap")), *ISOLATED.split(), *_no_namespaces()]
    for folder in ("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/etc/ld.so.cache"):
        line += ["--ro-bind-try", folder, folder]
    line += ["--ro-bind", str(shown), str(shown), "--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev"]
    line += ["--size", str(limits.file_mb * 2**20), "--tmpfs", "/tmp", "--chdir", "/tmp", "--remount-ro", "/"]
    # An empty environment from the start: bubblewrap's own process stays readable in the sandbox's /proc.
    return Command((*line, str(executable)), ENVIRONMENT)


@cache
def _no_namespaces() -> tuple[str, ...]:
    """The option that takes the right to make namespaces, where this bubblewrap knows it (from 0.8 on)."""
    told = subprocess.run(
        ["bwrap", "--help"], capture_output=True, text=True, timeout=PROBE_SECONDS, check=False
    )
    return ("--disable-userns",) if "--disable-userns" in told.stdout + told.stderr else ()


def container(tool: str, image: str) -> Callable[[Limits], Command]:
    """A container of `docker` or `podman` without network, with a read-only file system."""

    def command(limits: Limits) -> Command:
        name = f"grandrounds-{secrets.token_hex(8)}"
        memory, files = f"{limits.memory_mb}m", f"{limits.file_mb}m"
        line = [tool, "run", "--name", name, *CONTAINED.split()]
        line += ["--tmpfs", f"/tmp:size={files},mode=1777", "--shm-size", files]
        line += ["--memory", memory, "--memory-swap", memory, "--pids-limit", str(limits.processes)]
        for key in ("HOME", "LANG", "MALLOC_ARENA_MAX"):
            line += ["--env", f"{key}={ENVIRONMENT[key]}"]
        return Command((*line, image, "python3"), end=(tool, "kill", name))

    return command


def unsafe(limits: Limits) -> Command:
    """A process as any other, with limits: it reads your files and reaches the network."""
    return Command((sys.executable,), ENVIRONMENT)


def find_runtime(kind: str, image: str) -> Runtime:
    """The first that works of bubblewrap, Docker and Podman; or `unsafe`, if that was asked for. RewardError where
    there is none, with what each said."""
    if kind == "unsafe":
        return Runtime("no sandbox", unsafe)
    if kind != "auto":
        raise RewardError(f"there is no sandbox `{kind}`", hint="There are auto and unsafe.")
    if sys.platform == "win32":
        raise RewardError("there is no sandbox on Windows", hint="Train on Linux, or in WSL.")
    candidates = [
        Runtime("bubblewrap", bubblewrap),
        *(Runtime(tool, container(tool, image)) for tool in ("docker", "podman")),
    ]
    reasons = []
    for runtime in candidates:
        reason = _reason_against(runtime.name, image)
        if not reason:
            return runtime
        reasons.append(f"{runtime.name}: {reason}")
    raise RewardError(
        f"there is no sandbox to run programs in ({'; '.join(reasons)})",
        hint="Install bubblewrap (apt-get install bubblewrap, dnf install bubblewrap), or start Docker or Podman and "
        f"pull {image}. On a machine that holds nothing of worth: options: {{ sandbox: unsafe }}.",
    )


def sandbox_here() -> str:
    """What programs are run in on this machine. RewardError as `find_runtime`."""
    return f"programs run in {find_runtime('auto', IMAGE).name}"


@cache
def _reason_against(name: str, image: str) -> str:
    """Why this runtime cannot be used here, or ""."""
    tool = "bwrap" if name == "bubblewrap" else name
    if shutil.which(tool) is None:
        return "not installed"
    try:
        command = (bubblewrap if tool == "bwrap" else container(tool, image))(Limits())
        tried = subprocess.run(
            [*command.line, "-I", "-c", "print(1)"],
            env=command.environment,
            capture_output=True,
            text=True,
            timeout=PROBE_SECONDS,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no answer after {PROBE_SECONDS} seconds"
    except OSError as error:
        return os.strerror(error.errno or 0)
    if tried.stdout.strip() == "1":
        return ""
    return (tried.stderr.strip().splitlines() or [f"exit code {tried.returncode}"])[-1][:200]
