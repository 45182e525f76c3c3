"""The command `export`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from grandrounds.cli.train import quiet_libraries


def write_exports(run: Path, **wish: Any) -> None:
    """Export a run's policy; a line for each step."""
    quiet_libraries()
    from rich.console import Console

    from grandrounds.api import export
    from grandrounds.cli.progress import counted

    console = Console(highlight=False, soft_wrap=True)
    with counted("Exporting") as progress:
        export(run, note=lambda line: console.print(line, markup=False), progress=progress, **wish)
