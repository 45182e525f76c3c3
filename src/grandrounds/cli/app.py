"""Every command with its arguments and help. Other modules do the work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from grandrounds.cli.options import (
    Against,
    BaseName,
    Changes,
    CheckpointName,
    Converter,
    Engine,
    Events,
    ExportFolder,
    ExportKinds,
    Faithfulness,
    JsonFile,
    License,
    Limit,
    LogsOnly,
    Malformed,
    OtherCases,
    OutFolder,
    Overrides,
    Overwrite,
    Prompts,
    RecipeName,
    ReportCases,
    ReportFile,
    ReportLimit,
    ReportSamples,
    Rounded,
    Samples,
    Source,
    Split,
    Track,
    TrackCompletions,
    Trials,
    Watch,
)

app = typer.Typer(
    name="grandrounds",
    help="Fine-tune open-weight language models with GRPO so that they show their reasoning.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        from grandrounds._version import __version__

        typer.echo(f"grandrounds {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Fine-tune open-weight language models with GRPO so that they show their reasoning."""


@app.command()
def demo(
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for the runs and the page. Default: runs/demo or runs/demo-llm."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of everything random.")] = 0,
    full: Annotated[
        bool, typer.Option("--full", help="As long as the recipe `clinic` says: better, and slower.")
    ] = False,
    llm: Annotated[
        bool, typer.Option("--llm", help="A real language model instead of a small one made from scratch.")
    ] = False,
    source: Annotated[
        str | None, typer.Option("--cases", help="With --llm: your own cases instead of the clinic.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="With --llm: a model folder, a GGUF file or a Hub name.")
    ] = None,
) -> None:
    """Train a regular and a reasoning model on the embedded clinic and compare them: offline, minutes, CPU."""
    from grandrounds.cli.demo import language_demo, run_demo, small_demo

    for name, given, fits in (("--full", full, not llm), ("--cases", source, llm), ("--model", model, llm)):
        if given and not fits:
            raise typer.BadParameter("not with --llm" if llm else "only with --llm", param_hint=name)
    if llm:
        run_demo(out or Path("runs/demo-llm"), language_demo(seed, source or "clinic", model))
    else:
        run_demo(out or Path("runs/demo"), small_demo(seed, full=full))


@app.command()
def cases(
    source: Annotated[str, typer.Argument(help="A file, a Hub dataset, or `clinic`.")],
    format: Annotated[str, typer.Option("--format", help="The source's format.")] = "auto",
    overrides: Overrides = [],  # noqa: B006 - typer reads the default, nobody mutates it
    tokenizer: Annotated[
        str | None,
        typer.Option("--tokenizer", help="Count lengths in this model's tokens (folder or Hub name)."),
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(
            "--policy", help="Show a case as this model's tokens, and what its chat template drops."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Show what a source of cases holds: counts, lengths, duplicates, leakage, shortcuts, identifiers."""
    from grandrounds.cli.cases import show_cases

    show_cases(source, format, overrides, tokenizer, policy, as_json)


@app.command()
def init(
    source: Annotated[str, typer.Argument(help="Your cases: a file, a folder or a Hub dataset.")],
    model: Annotated[str, typer.Argument(help="A model's folder, GGUF file or Hub name.")],
    domain: Annotated[
        str | None,
        typer.Option("--domain", help="medicine, law, finance, mathematics or code: adds its rewards."),
    ] = None,
    overrides: Annotated[
        list[str],
        typer.Option("--set", help="How cases are read: --set cases.columns.answer=gold. Repeatable."),
    ] = [],  # noqa: B006
    out: Annotated[Path | None, typer.Option("--out", help="The recipe's file; default: NAME.yaml.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Write over a file that is there.")] = False,
) -> None:
    """Write a commented recipe for your cases and a model, and show three prompts as the model will see them."""
    from grandrounds.cli.init import write_recipe

    write_recipe(source, model, domain, overrides, out, replace)


@app.command()
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
    from grandrounds.cli.train import start_training

    overrides = [*overrides, "rounds=0", f"sft.reasoning={str(reasoning).lower()}"]
    start_training(recipe, overrides, out, events=events, track=track)


@app.command()
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


@app.command()
def plan(
    recipe: RecipeName,
    overrides: Overrides = [],  # noqa: B006
    memory: Annotated[
        str | None,
        typer.Option("--memory", help="Plan for another device with this much memory, for example 16GB."),
    ] = None,
    prompt_tokens: Annotated[
        int | None,
        typer.Option(
            "--prompt-tokens", min=1, help="Tokens of the longest prompt; default: counted from the cases."
        ),
    ] = None,
    probe: Annotated[
        bool, typer.Option("--probe/--no-probe", help="Load the model and time a few steps.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Say how much memory a run of the recipe needs, what still fits, and how long a round takes."""
    from grandrounds.cli.plan import show_plan

    show_plan(recipe, overrides, memory, prompt_tokens, probe, as_json)


@app.command()
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


@app.command()
def evaluate(
    policy: Annotated[str, typer.Argument(help="A run, a checkpoint, a model folder or a Hub name.")],
    cases: Source,
    samples: Samples = None,
    split: Split = "auto",
    limit: Limit = None,
    overrides: Overrides = [],  # noqa: B006
    faithfulness: Faithfulness = False,
    json_file: JsonFile = None,
) -> None:
    """Evaluate one policy: accuracy with its interval, form, reasoning, behaviours, subgroups."""
    from grandrounds.cli.evaluate import show_evaluation

    show_evaluation(policy, cases, samples, split, limit, overrides, faithfulness, json_file)


@app.command()
def compare(
    policies: Annotated[
        list[str], typer.Argument(help="Two or more policies; NAME=POLICY gives one a name.")
    ],
    cases: Source,
    samples: Samples = None,
    split: Split = "auto",
    limit: Limit = None,
    overrides: Overrides = [],  # noqa: B006
    faithfulness: Faithfulness = False,
    json_file: JsonFile = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write a page with the comparison.")] = None,
) -> None:
    """Evaluate several policies on the same cases, with paired tests and responses side by side."""
    from grandrounds.cli.evaluate import show_comparison

    show_comparison(policies, cases, samples, split, limit, overrides, faithfulness, json_file, html)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    to: ExportKinds = [],  # noqa: B006
    checkpoint: CheckpointName = None,
    out: ExportFolder = None,
    prompts: Prompts = 20,
    cases: OtherCases = None,
    bfloat16: Rounded = False,
    overwrite: Overwrite = False,
    base: BaseName = None,
    license: License = None,
    converter: Converter = None,
    overrides: Overrides = [],  # noqa: B006
) -> None:
    """Write adapter, merged model or GGUF with a model card, once each gives the same tokens as the run's policy."""
    from grandrounds.cli.export import write_exports

    write_exports(
        run,
        to=to,
        checkpoint=checkpoint,
        out=out,
        prompts=prompts,
        cases=cases,
        bfloat16=bfloat16,
        overwrite=overwrite,
        base=base,
        license=license,
        converter=converter,
        overrides=overrides,
    )


@app.command()
def report(
    run: Annotated[str, typer.Argument(help="A run's folder; NAME=FOLDER gives it a name.")],
    compare: Against = [],  # noqa: B006
    cases: ReportCases = None,
    limit: ReportLimit = 300,
    trials: Trials = 50,
    samples: ReportSamples = 8,
    logs_only: LogsOnly = False,
    overrides: Overrides = [],  # noqa: B006
    out: ReportFile = None,
) -> None:
    """Write a report on a run as one HTML file: provenance, curves, results, calibration, audit, limits, sign-off."""
    from grandrounds.cli.report import write_report

    if logs_only and (compare or cases):
        raise typer.BadParameter(
            "it evaluates nothing: leave out --compare and --cases", param_hint="--logs-only"
        )
    write_report(run, compare, cases, limit, trials, samples, logs_only, overrides, out)


@app.command()
def recipe(
    name: Annotated[str | None, typer.Argument(help="A recipe to print in full.")] = None,
    overrides: Overrides = [],  # noqa: B006
    explain: Annotated[
        bool, typer.Option("--explain", help="Every key with its default and meaning.")
    ] = False,
) -> None:
    """List the shipped recipes, print one, or explain every key."""
    from grandrounds.cli.recipe import show_recipe

    show_recipe(name, overrides, explain)


rewards_app = typer.Typer(help="Try rewards before a model does.", no_args_is_help=True)
app.add_typer(rewards_app, name="rewards")


@rewards_app.command("test")
def rewards_test(
    target: Annotated[
        str, typer.Argument(help="A recipe, or a function: FILE.py:NAME, package.module:NAME.")
    ],
    source: Annotated[
        str | None, typer.Option("--cases", help="Cases to try them on; default: those of the recipe.")
    ] = None,
    overrides: Overrides = [],  # noqa: B006
    limit: Annotated[int, typer.Option("--limit", min=2, help="Use at most this many cases.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Attack rewards before training: what right, wrong and dishonest responses earn. Exit code 1 if an attack pays."""
    from grandrounds.cli.rewards import test_rewards

    test_rewards(target, source, overrides, limit, as_json)


@rewards_app.command("agreement")
def rewards_agreement(
    recipe: RecipeName,
    labels: Annotated[
        str,
        typer.Option(
            "--labels",
            help="Rows with `case` or `question`, `response`, and people's `met` or `points`.",
        ),
    ],
    overrides: Overrides = [],  # noqa: B006
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Compare the recipe's judge with people: share of equal verdicts, Cohen's kappa, difference of scores."""
    from grandrounds.cli.rewards import show_agreement

    show_agreement(recipe, labels, overrides, as_json)


@app.command()
def audit(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    limit: Annotated[int, typer.Option("--limit", min=1, help="Show at most this many cases.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines instead of a table.")] = False,
) -> None:
    """Show cases whose gold answers may be wrong: all completions of a group agree on another answer."""
    from grandrounds.cli.audit import audit_labels

    audit_labels(run, limit, as_json)


@app.command()
def view(
    runs: Annotated[
        list[Path], typer.Argument(help="Folders of runs, ours or TRL's. Several are laid over each other.")
    ],
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: any free one.")] = 0,
    host: Annotated[
        str, typer.Option("--host", help="The address to listen on. The default is this machine alone.")
    ] = "127.0.0.1",
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page.")] = True,
) -> None:
    """Show runs on a local page: live curves, warnings, and every completion beside its group."""
    from grandrounds.cli.view import view_runs

    view_runs(runs, host, port, browser)


import_app = typer.Typer(help="Make a recipe of another program's settings.", no_args_is_help=True)
app.add_typer(import_app, name="import")


@import_app.command("trl")
def import_trl(
    file: Annotated[Path, typer.Argument(help="YAML for GRPO of TRL, Unsloth or axolotl.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="The recipe's file. Default: NAME-recipe.yaml, here.")
    ] = None,
) -> None:
    """Write a recipe, and say what became of every key. Exit code 1 only where no recipe can be made."""
    from grandrounds.cli.imports import write_recipe_of

    write_recipe_of(file, out)


@app.command()
def serve(
    policies: Annotated[
        list[str],
        typer.Argument(help="Runs, checkpoints, model folders or GGUF files; NAME=POLICY gives one a name."),
    ],
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on. Others can only reach one with an API key.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    key_file: Annotated[
        Path | None,
        typer.Option("--api-key-file", help="File with the API key; default: GRANDROUNDS_API_KEY, or none."),
    ] = None,
    malformed: Annotated[
        Malformed,
        typer.Option("--malformed", help="A response that leaves its form: repair it, or refuse it."),
    ] = Malformed.repair,
    rows: Annotated[
        int, typer.Option("--rows", min=1, help="Completions of a policy that are decoded at once.")
    ] = 64,
    queue: Annotated[
        int, typer.Option("--queue", min=1, help="Requests that may wait for a policy; more get status 429.")
    ] = 256,
    max_tokens: Annotated[
        int, typer.Option("--max-tokens", min=1, help="The most tokens that a request may ask for.")
    ] = 4096,
    max_body: Annotated[
        int, typer.Option("--max-body", min=1, help="The most bytes of a request; more get status 413.")
    ] = 2**20,
    engine: Annotated[
        Engine, typer.Option("--engine", help="What decodes. With vllm: what to do for vLLM's own server.")
    ] = Engine.native,
    overrides: Overrides = [],  # noqa: B006
) -> None:
    """Serve policies over HTTP in the shape of OpenAI's API, with a page to try them. Needs the extra `serve`."""
    from grandrounds.cli.serve import serve_policies
    from grandrounds.serve.options import ServeOptions

    options = ServeOptions(
        host,
        port,
        None,
        malformed.value,
        max_rows=rows,
        max_queue=queue,
        max_tokens=max_tokens,
        max_body=max_body,
    )
    serve_policies(policies, options, key_file, engine.value, overrides)


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of lines.")] = False,
) -> None:
    """Check this machine: versions, device, precision, memory, sandbox, speed."""
    from grandrounds.cli.doctor import show_doctor

    show_doctor(as_json)
