"""Checkpoints that become visible complete or not at all.

A checkpoint is written into a hidden sibling folder, flushed to disk and made visible by one rename. Its
`manifest.json`, which is written last, lists every file with its size. A checkpoint that has since lost a file or part
of one (a copy cut short, a repaired disk) is skipped in favour of the one before.

    000020/  model or adapter, tokenizer, optimizer.safetensors, state.json (counters), manifest.json
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grandrounds.errors import RunError
from grandrounds.training.files import folder_at_once, remove_tree, saving, sweep, write_json

if TYPE_CHECKING:
    from torch import Tensor

MANIFEST, OPTIMIZER, STATE = "manifest.json", "optimizer.safetensors", "state.json"
COLD_START = "000000"


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints in one folder, oldest first by name. Names are digits of one width: "000020"."""

    folder: Path

    def all(self) -> list[Path]:
        """Every visible checkpoint, complete or not, sorted by name."""
        if not self.folder.is_dir():
            return []
        return sorted(path for path in self.folder.iterdir() if path.is_dir() and path.name.isdigit())

    def complete(self) -> list[Path]:
        """Every complete checkpoint, sorted by name."""
        return [path for path in self.all() if damage_of(path) is None]

    def latest(self, warn: Callable[[str], None] = warnings.warn) -> Path | None:
        """The newest complete checkpoint, or None. Damaged ones are skipped with a warning."""
        for path in reversed(self.all()):
            damage = damage_of(path)
            if damage is None:
                return path
            warn(f"Checkpoint {path.name} is skipped: {damage}.")
        return None

    def save(self, name: str, write: Callable[[Path], None]) -> Path:
        """Write a checkpoint through `write(folder)`. It becomes visible complete, or not at all.

        It replaces a checkpoint of that name, such as a damaged one after a resume. Raises RunError when the disk is
        full or cannot be written to; any other error that `write` raises passes through. Earlier checkpoints stay
        untouched.
        """
        final = self.folder / name
        with saving(f"checkpoint {name}", final):
            self.folder.mkdir(parents=True, exist_ok=True)
            sweep(self.folder)
            with folder_at_once(final) as hidden:
                write(hidden)
                write_json(hidden / MANIFEST, {"files": sizes(hidden)})
        return final

    def prune(self, keep: int, also: Collection[str] = ()) -> None:
        """Remove all but the `keep` newest complete checkpoints. The cold start, the newest and `also` always stay."""
        staying = {COLD_START, *also}
        complete = [path for path in self.complete() if path.name not in staying]
        for path in complete[: -max(1, keep)]:
            remove_tree(path)

    def remove_after(self, number: int) -> None:
        """Remove the checkpoints of later rounds, the newest first: one cut short leaves an unbroken row of them."""
        for path in reversed(self.all()):
            if int(path.name) > number:
                remove_tree(path)

    def clear(self) -> None:
        """Remove all checkpoints and their folder."""
        if self.folder.is_dir():
            remove_tree(self.folder)


def sizes(folder: Path) -> dict[str, int]:
    """Path below `folder` (with forward slashes) -> bytes, of every file but the manifest."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}


def damage_of(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint's files. None where every file is there in full length."""
    try:
        expected = json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return f"its {MANIFEST} is missing or unreadable"
    found = sizes(checkpoint)
    for name, size in expected.items():
        if name not in found:
            return f"{name} is missing"
        if found[name] != size:
            return f"{name} has {found[name]:,} bytes instead of {size:,}"
    return None


def write_state(folder: Path, tensors: Mapping[str, Tensor], counters: Mapping[str, Any]) -> None:
    """Write the optimizer's tensors and the run's counters into a checkpoint's folder."""
    from safetensors.torch import save_file

    flat = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(flat, folder / OPTIMIZER)
    write_json(folder / STATE, dict(counters))


def read_state(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `write_state` wrote: the optimizer's tensors, on the CPU, and the counters. RunError if unreadable."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(folder / OPTIMIZER), json.loads((folder / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError, SafetensorError) as error:
        raise RunError(
            f"the checkpoint's optimizer state cannot be read: {error}",
            where=str(folder),
            hint="Remove this checkpoint's folder and resume from the one before.",
        ) from error
