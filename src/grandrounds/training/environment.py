"""What a run depends on besides its recipe: versions, machine, data files, code. No user names and no host names."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from grandrounds._version import __version__

PACKAGES = ("torch", "transformers", "peft", "safetensors", "tokenizers", "datasets", "numpy", "pyarrow")


def environment(data_files: Iterable[Path] = ()) -> dict[str, Any]:
    """The JSON-able content of a run's environment.json. Data files are named without their folders."""
    return {
        "grandrounds": __version__,
        "code": code_version(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "threads": threads(),
        "accelerator": accelerator(),
        "data": {path.name: sha256(path) for path in data_files},
    }


def version(package: str) -> str | None:
    """The installed version, without importing the package; None where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def threads() -> int:
    """The number of threads that torch computes with. Before torch is loaded: of CPUs that the process may use."""
    if "torch" in sys.modules:
        return int(sys.modules["torch"].get_num_threads())
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def accelerator() -> str | None:
    """The name of the first GPU, if torch is loaded and sees one."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    return str(torch.cuda.get_device_name(0))


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def code_version() -> str | None:
    """The git commit of a source checkout, with "+changes" where tracked files differ. None if installed."""
    root = Path(__file__).parents[3]
    if not (root / ".git").exists():
        return None
    try:
        commit = _git(root, "rev-parse", "HEAD")
        changes = _git(root, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("+changes" if changes else "")


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.strip()


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What changed among the things that can change a result: "torch 2.9.0 -> 2.10.0". Data files are not included."""
    old = {**before.get("packages", {}), **{key: before.get(key) for key in _TELLING}}
    new = {**now.get("packages", {}), **{key: now.get(key) for key in _TELLING}}
    return [f"{key} {old.get(key)} -> {value}" for key, value in new.items() if old.get(key) != value]


_TELLING = ("grandrounds", "code", "python", "machine", "threads", "accelerator")
