"""Where a run lies in TRL's output folder, and its checkpoints under transformers' names.

    output_dir/run                 the run's folder; run-2 and so on where the script was started again
    output_dir/checkpoint-N        after N optimizer steps: the files of the run's checkpoint, and trainer_state.json

The files of checkpoint-N are hard links, copies where the file system has none: they take no room beside the run's own,
any tool reads them as plain files, and they stay when the run's own checkpoint is removed.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any, Literal

from grandrounds.errors import RunError
from grandrounds.training.files import remove_tree, saving
from grandrounds.training.folder import RECIPE, RunFolder

RUN, CHECKPOINT, STATE = "run", "checkpoint-", "trainer_state.json"


def runs_in(output: Path) -> list[Path]:
    """The runs in a TRL output folder that have begun, oldest first."""
    found = []
    for path in output.glob(f"{RUN}*"):
        number = path.name.removeprefix(RUN).removeprefix("-") or "1"
        if number.isdigit() and (path / RECIPE).is_file() and RunFolder(path).began():
            found.append((int(number), path))
    return [path for _, path in sorted(found)]


def new_run(output: Path) -> Path:
    """The folder of a new run: one that no run has begun in."""
    number, path = 1, output / RUN
    while path.exists() and RunFolder(path).began():
        number += 1
        path = output / f"{RUN}-{number}"
    return path


def run_to_resume(output: Path, wanted: Literal[True] | str | Path, steps_per_round: int) -> RunFolder:
    """The run that `resume_from_checkpoint` means. RunError where there is none, or it is not its newest checkpoint."""
    runs = runs_in(output)
    if not runs:
        raise RunError(
            "there is no run to resume",
            where=str(output),
            hint="Leave resume_from_checkpoint out to begin one.",
        )
    folder = RunFolder(runs[-1])
    if wanted is True:
        return folder
    newest = output / f"{CHECKPOINT}{rounds_done(folder) * steps_per_round}"
    if Path(wanted).resolve() != newest.resolve():
        raise RunError(
            f"a run goes on from its newest checkpoint, which is {newest.name}",
            where=f"train(resume_from_checkpoint={str(wanted)!r})",
            hint="Pass True or that one; or begin a new run with the older checkpoint as its model.",
        )
    return folder


def rounds_done(folder: RunFolder) -> int:
    """Rounds up to the newest complete checkpoint."""
    newest = folder.checkpoints.latest(lambda damage: None)
    return int(newest.name) if newest else 0


def publish(source: Path, output: Path, step: int, state: str) -> Path:
    """Make output_dir/checkpoint-N of a run's checkpoint. state: the text of its trainer_state.json."""
    final = output / f"{CHECKPOINT}{step}"
    hidden = output / f".{final.name}"
    with saving(final.name, final):
        shutil.rmtree(hidden, ignore_errors=True)
        hidden.mkdir()
        for path in source.iterdir():
            _link(path, hidden / path.name)
        (hidden / STATE).write_text(state, encoding="utf-8")
        if final.exists():
            remove_tree(final)
        os.rename(hidden, final)
    return final


def _link(path: Path, to: Path) -> None:
    try:
        os.link(path, to)
    except OSError:
        shutil.copy2(path, to)


def numbered(output: Path) -> list[tuple[int, Path]]:
    """(step, folder) of every checkpoint-N, by step."""
    found = [(path.name.removeprefix(CHECKPOINT), path) for path in output.glob(f"{CHECKPOINT}*")]
    return sorted((int(number), path) for number, path in found if number.isdigit())


def prune(output: Path, keep: int | None) -> None:
    """Remove all but the newest checkpoint-N."""
    if keep:
        for _, path in numbered(output)[:-keep]:
            remove_tree(path)


def history(output: Path, step: int) -> dict[str, Any]:
    """The newest trainer_state.json of a checkpoint-N up to this step; empty where there is none."""
    for number, path in reversed(numbered(output)):
        if number <= step and (path / STATE).is_file():
            return dict(json.loads((path / STATE).read_text(encoding="utf-8")))
    return {}
