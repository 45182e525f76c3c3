"""Options and arguments that commands share, and those of commands with many."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

RecipeName = Annotated[
    str, typer.Argument(help="A shipped recipe (see `grandrounds recipe`) or a YAML file.")
]
Overrides = Annotated[
    list[str], typer.Option("--set", help="Change a recipe key: --set grpo.group_size=16. Repeatable.")
]
Changes = Annotated[
    list[str],
    typer.Option(
        "--set", help="Change a key that may change: --set rounds=200 makes a run longer. Repeatable."
    ),
]
OutFolder = Annotated[Path | None, typer.Option("--out", help="The run's folder. Default: runs/NAME.")]
Source = Annotated[
    str | None,
    typer.Option(
        "--cases",
        help="A file, a Hub dataset, `clinic` or `clinic:NAME OF A HELD-OUT SET`. Default: the run's own.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
JsonFile = Annotated[
    Path | None,
    typer.Option(
        "--json",
        help="Also write the result to this JSON file; `-`: print it instead of tables.",
        metavar="FILE",
    ),
]
Events = Annotated[
    bool, typer.Option("--json", help="Print each event as a JSON object on a line of its own.")
]
Watch = Annotated[
    bool, typer.Option("--watch", help="Serve a page with the run's curves and groups while it trains.")
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Use at most this many cases.")]
Samples = Annotated[
    int | None, typer.Option("--samples", min=1, help="Completions per case; 1 decodes greedily.")
]
Split = Annotated[
    str,
    typer.Option(
        "--split",
        help="auto (held-out cases of the run's own source, else all), test, validation, train or all.",
    ),
]

Faithfulness = Annotated[
    bool,
    typer.Option(
        "--faithfulness",
        help="Also ask each case again: without a cited finding, with another in its place, with the reasoning cut.",
    ),
]
Track = Annotated[
    list[str],
    typer.Option("--track", help="Also show the run in mlflow, wandb, trackio, tensorboard. Repeatable."),
]
TrackCompletions = Annotated[
    int | None,
    typer.Option(
        "--track-completions",
        min=0,
        help="Rounds between tables of completions there; 0: none. Default: as it evaluates.",
    ),
]


class Malformed(Enum):
    """What becomes of a response that leaves its form."""

    repair = "repair"
    refuse = "refuse"


class Engine(Enum):
    """What decodes what is served."""

    native = "native"
    vllm = "vllm"


# Of `export`.
ExportKinds = Annotated[
    list[str],
    typer.Option(
        "--to",
        help="adapter, merged or gguf. Default: the adapter, or the model of a run without. Repeatable.",
    ),
]
CheckpointName = Annotated[
    str | None, typer.Option("--checkpoint", help="best, newest or a round. Default: best, if there is one.")
]
ExportFolder = Annotated[
    Path | None, typer.Option("--out", help="Folder for a folder of each kind. Default: RUN/export.")
]
Prompts = Annotated[
    int, typer.Option("--prompts", min=1, help="Compare on so many held-out prompts before it counts.")
]
OtherCases = Annotated[
    str | None, typer.Option("--cases", help="Cases whose prompts to compare on, if not the run's own.")
]
Rounded = Annotated[bool, typer.Option("--bfloat16", help="Round a whole model's weights to half the size.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an export that is there.")]
BaseName = Annotated[
    str | None, typer.Option("--base", help="The base model's name on the Hub, for adapter and card.")
]
License = Annotated[str | None, typer.Option("--license", help="The licence, for the card.")]
Converter = Annotated[
    Path | None, typer.Option("--converter", help="llama.cpp's convert_hf_to_gguf.py, for gguf.")
]
# Of `report`.
Against = Annotated[
    list[str],
    typer.Option(
        "--compare", help="Another run or policy on the same cases, such as regular=runs/regular. Repeatable."
    ),
]
ReportCases = Annotated[
    str | None, typer.Option("--cases", help="Other cases than those held out from the run's own.")
]
ReportLimit = Annotated[int, typer.Option("--limit", min=1, help="Evaluate at most this many cases.")]
Trials = Annotated[
    int,
    typer.Option(
        "--trials",
        min=0,
        help="Measure calibration and robustness on at most this many of them; 0 leaves both out.",
    ),
]
ReportSamples = Annotated[
    int, typer.Option("--samples", min=2, help="Answers to each case, for calibration.")
]
LogsOnly = Annotated[
    bool, typer.Option("--logs-only", help="Load no model: report only what the run's folder holds.")
]
ReportFile = Annotated[
    Path | None, typer.Option("--out", help="The report's file. Default: report.html in the run's folder.")
]
