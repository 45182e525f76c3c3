"""The checks of `grandrounds doctor`: whether this machine can train, and what to improve. They use no network."""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement
from packaging.version import Version

from grandrounds._version import __version__
from grandrounds.domain import domains
from grandrounds.errors import GrandRoundsError
from grandrounds.machine import GIB, available_memory
from grandrounds.recipe import PolicyRecipe
from grandrounds.training.environment import threads, version

Level = Literal["ok", "warn", "bad"]
# Extra -> a package of it, and what it is for.
EXTRAS = {
    "quantize": ("bitsandbytes", "4-bit weights"),
    "excel": ("openpyxl", "cases from Excel files"),
    "gguf": ("gguf", "models in GGUF files"),
    "math": ("math_verify", "expressions as answers"),
    "view": ("polars", "the page of a run"),
    "serve": ("uvicorn", "policies behind OpenAI's API"),
}


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    name: what was checked. level: "ok"; "warn", works, but the user should know; "bad", will not work.
    hint: what to do about it; empty where nothing is wrong.
    """

    name: str
    level: Level
    what: str
    hint: str = ""


def diagnose(folder: Path | None = None) -> list[Finding]:
    """Check this machine in about two seconds. `folder`: where runs will be written; default: the current folder."""
    broken = _broken_torch()
    if broken:
        return [*_python(), *_packages(), broken]
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        _python,
        _packages,
        _device,
        _threads,
        _memory,
        lambda: _disk(folder or Path.cwd()),
        _extras,
        _domains,
        _speed,
    )
    return [finding for check in checks for finding in check()]


def _python() -> Iterator[Finding]:
    system = f"{platform.system()} {platform.machine()}"
    what = f"grandrounds {__version__}, Python {platform.python_version()}, {system}"
    if sys.version_info[:2] > (3, 13):
        yield Finding("Python", "warn", what, "Tested with Python 3.11 to 3.13.")
    else:
        yield Finding("Python", "ok", what)


def _packages() -> Iterator[Finding]:
    """Required packages: whether they are installed and new enough, and whether their versions were tested."""
    tested, strange = tested_versions(), []
    for requirement in _requirements():
        found = version(requirement.name)
        hint = f"pip install '{requirement}'"
        if found is None:
            yield Finding("packages", "bad", f"{requirement.name} is not installed", hint)
        elif not requirement.specifier.contains(found, prereleases=True):
            yield Finding(
                "packages", "bad", f"{requirement.name} {found} is not {requirement.specifier}", hint
            )
        elif differs(found, tested.get(requirement.name.lower())):
            strange.append(f"{requirement.name} {found} (tested: {tested[requirement.name.lower()]})")
    named = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "peft"))
    yield Finding("packages", "ok", named)
    if strange:
        yield Finding(
            "packages",
            "warn",
            f"versions not tested together: {'; '.join(strange)}",
            "Probably fine; in doubt install with `pip install -c constraints.txt`.",
        )


def _broken_torch() -> Finding | None:
    try:
        importlib.import_module("torch")
    except (ImportError, OSError) as error:  # OSError: a shared library is missing or for another system
        return Finding(
            "torch",
            "bad",
            f"torch cannot be imported: {error}",
            "Install it anew, as pytorch.org says for this machine.",
        )
    return None


def _requirements() -> list[Requirement]:
    """The package's own requirements, without extras. Empty where the package is not installed."""
    try:
        lines = metadata.requires("grandrounds") or []
    except metadata.PackageNotFoundError:
        return []
    requirements = [Requirement(line) for line in lines]
    return [one for one in requirements if one.marker is None or one.marker.evaluate({"extra": ""})]


def tested_versions() -> dict[str, str]:
    """Package -> tested version, from constraints.txt in the package's folder or at the root of a checkout."""
    here = Path(__file__).parent
    for path in (here / "constraints.txt", here.parents[1] / "constraints.txt"):
        if path.is_file():
            lines = (line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
            pairs = (line.partition(";")[0].partition("==") for line in lines if "==" in line)
            return {name.strip().lower(): pinned.strip() for name, _, pinned in pairs}
    return {}


def differs(found: str, tested: str | None) -> bool:
    """Whether the major or minor version differs from the tested one."""
    return tested is not None and Version(found).release[:2] != Version(tested).release[:2]


def _device() -> Iterator[Finding]:
    import torch

    from grandrounds.policy.load import choose_device
    from grandrounds.policy.precision import choose_precision

    device = choose_device("auto")
    dtype, reason = choose_precision(PolicyRecipe(), device)
    precision = f"weights in {str(dtype).removeprefix('torch.')} ({reason})"
    if device.type == "cpu":
        precision += "; for large models it is measured whether bfloat16 is faster"
    if device.type == "cuda":
        for number in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(number)
            name = torch.cuda.get_device_name(number)
            what = f"cuda:{number} {name}, {free / GIB:.1f} of {total / GIB:.1f} GiB free; {precision}"
            busy = "Other programs use it: see `nvidia-smi`." if free < total / 2 else ""
            yield Finding("device", "warn" if busy else "ok", what, busy)
        return
    what = f"no GPU, computing on the CPU; {precision}"
    if shutil.which("nvidia-smi") or Path("/proc/driver/nvidia").exists():
        built = "built without CUDA" if torch.version.cuda is None else f"built for CUDA {torch.version.cuda}"
        hint = "Install the torch build that fits the driver (`nvidia-smi` shows its CUDA version)."
        yield Finding(
            "device", "warn", f"there is an NVIDIA GPU that torch ({built}) cannot use; {what}", hint
        )
    else:
        yield Finding("device", "ok", what)


def _counted(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"


def _threads() -> Iterator[Finding]:
    import torch  # noqa: F401 - `threads` asks torch where it is loaded

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    what = f"{_counted(threads(), 'thread')} for {_counted(cores, 'usable core')}"
    if threads() > cores:
        yield Finding(
            "threads",
            "warn",
            what,
            f"Set OMP_NUM_THREADS={cores}: more threads than cores slow each other down.",
        )
    elif threads() < cores // 2:
        yield Finding("threads", "warn", what, f"Set OMP_NUM_THREADS={cores} to use the machine.")
    else:
        yield Finding("threads", "ok", what)


def _memory() -> Iterator[Finding]:
    free = available_memory()
    what = f"{free / GIB:.1f} GiB of memory available"
    if free < 3 * GIB:
        yield Finding("memory", "warn", what, "The demo needs 3 GiB: close other programs.")
    else:
        yield Finding("memory", "ok", what)


def _disk(folder: Path) -> Iterator[Finding]:
    place = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not os.access(place, os.W_OK):
        yield Finding("disk", "bad", f"{folder} may not be written to", "Choose another folder with --out.")
        return
    free = shutil.disk_usage(place).free
    what = f"{free / GIB:.1f} GiB of disk free for runs"
    hint = "Free some space: a checkpoint of a 1.7B model trained whole takes 17 GiB, with LoRA 0.3 GiB."
    level: Level = "bad" if free < GIB / 2 else "warn" if free < 5 * GIB else "ok"
    yield Finding("disk", level, what, hint if level != "ok" else "")


def _extras() -> Iterator[Finding]:
    there = {name for name, (package, _) in EXTRAS.items() if importlib.util.find_spec(package)}
    said = [f"{name} ({EXTRAS[name][1]})" for name in EXTRAS if name in there]
    missing = [f"{name} ({EXTRAS[name][1]})" for name in EXTRAS if name not in there]
    hint = f"For more: pip install 'grandrounds[NAME]', NAME being {', '.join(missing)}." if missing else ""
    yield Finding("extras", "ok", f"{', '.join(said) or 'none, and none is needed'}", hint)


def _domains() -> Iterator[Finding]:
    for domain in domains():
        if domain.needs is None:
            continue
        try:
            yield Finding(domain.name, "ok", domain.needs())
        except GrandRoundsError as error:
            yield Finding(domain.name, "warn", error.what, error.hint)


def _speed() -> Iterator[Finding]:
    """Multiply matrices for a second: whether the products are right, and how fast."""
    import torch

    from grandrounds.policy.load import choose_device
    from grandrounds.policy.precision import choose_precision

    device = choose_device("auto")
    dtype, _ = choose_precision(PolicyRecipe(), device)
    size = 4096 if device.type == "cuda" else 1024
    numbers = torch.arange(size * size, dtype=torch.float64).remainder(13).sub(6).div(6).reshape(size, size)
    matrix = numbers.to(device, dtype)
    product = (matrix[:64] @ matrix).double().cpu()
    expected = matrix[:64].double().cpu() @ matrix.double().cpu()
    error = float((product - expected).abs().max() / expected.abs().max())
    if not error < 1e-2:
        yield Finding(
            "speed",
            "bad",
            f"matrix products are wrong by {error:.1e}",
            "Reinstall torch, or check the hardware.",
        )
        return
    rounds, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < 1.0:
        matrix @ matrix
        if device.type == "cuda":
            torch.cuda.synchronize()
        rounds += 1
    rate = rounds * 2 * size**3 / elapsed / 1e9
    what = f"{rate:,.0f} GFLOP/s in {str(dtype).removeprefix('torch.')}, products right"
    if rate < 20:
        yield Finding(
            "speed", "warn", what, "Slow: the demo may take longer than 6 minutes. Are other programs busy?"
        )
    else:
        yield Finding("speed", "ok", what)
