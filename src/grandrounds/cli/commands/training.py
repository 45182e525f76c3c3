"""Commands that train, and show a training. Other modules do the work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from grandrounds.cli.options import (
    Changes,
    Events,
    OutFolder,
    Overrides,
    RecipeName,
    Track,
    TrackCompletions,
    Watch,
)

PANEL = "Train"
app = typer.Typer()


@app.command(rich_help_panel=PANEL)
def sft(
    recipe: RecipeName,
    overrides: Overrides = [],  # noqa: B006
    reasoning: Annotated[
        bool, typer.Option("--reasoning/--no-reasoning", help="Learn to reason, or the answer alone.")
    ] = True,
    out: OutFolder = None,
    events: Events = False,
    track: Track = [],  # noqa: B006
) -> None:
    """Supervised fine-tuning by itself: the "regular" model."""
    from grandrounds.cli.train import sft_overrides, start_training

    start_training(recipe, sft_overrides(overrides, reasoning), out, events=events, track=track)


@app.command(rich_help_panel=PANEL)
def train(
    recipe: RecipeName,
    overrides: Overrides = [],  # noqa: B006
    out: OutFolder = None,
    watch: Watch = False,
    events: Events = False,
    track: Track = [],  # noqa: B006
    track_completions: TrackCompletions = None,
) -> None:
    """SFT warm-up, then rounds of GRPO, as the recipe says."""
    from grandrounds.cli.train import start_training

    start_training(
        recipe, overrides, out, watch=watch, events=events, track=track, track_completions=track_completions
    )


@app.command(rich_help_panel=PANEL)
def resume(
    run: Annotated[Path, typer.Argument(help="The folder of an interrupted run, or of a finished one.")],
    overrides: Changes = [],  # noqa: B006
    watch: Watch = False,
    events: Events = False,
    track: Track = [],  # noqa: B006
    track_completions: TrackCompletions = None,
) -> None:
    """Go on with a run from its newest checkpoint; the result is that of an uninterrupted one."""
    from grandrounds.cli.train import resume_training

    resume_training(
        run, overrides, watch=watch, events=events, track=track, track_completions=track_completions
    )


@app.command(rich_help_panel=PANEL)
def view(
    runs: Annotated[
        list[Path], typer.Argument(help="Folders of runs, ours or TRL's. Several are laid over each other.")
    ],
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = 0,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on. By default only this machine reaches it.")
    ] = "127.0.0.1",
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")
    ] = True,
) -> None:
    """Show runs on a local page: live curves, warnings, and every completion beside its group."""
    from grandrounds.cli.view import view_runs

    view_runs(runs, host, port, browser)
