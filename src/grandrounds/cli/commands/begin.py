"""Commands that come before a training. Other modules do the work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from grandrounds.cli.options import AsJson, Overrides, RecipeName

PANEL = "Begin"
app = typer.Typer()


@app.command(rich_help_panel=PANEL)
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


@app.command(rich_help_panel=PANEL)
def doctor(
    as_json: AsJson = False,
) -> None:
    """Check this machine: versions, device, precision, memory, sandbox, speed."""
    from grandrounds.cli.doctor import show_doctor

    show_doctor(as_json)


@app.command(rich_help_panel=PANEL)
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
    out: Annotated[Path | None, typer.Option("--out", help="The recipe's file. Default: NAME.yaml.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Write over a file that is there.")] = False,
) -> None:
    """Write a commented recipe for your cases and a model, and show three prompts as the model will see them."""
    from grandrounds.cli.init import write_recipe

    write_recipe(source, model, domain, overrides, out, replace)


@app.command(rich_help_panel=PANEL)
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
    as_json: AsJson = False,
) -> None:
    """Show what a source of cases holds: counts, lengths, duplicates, leakage, shortcuts, identifiers."""
    from grandrounds.cli.cases import show_cases

    show_cases(source, format, overrides, tokenizer, policy, as_json)


@app.command(rich_help_panel=PANEL)
def recipe(
    name: Annotated[str | None, typer.Argument(help="A recipe to print in full.")] = None,
    overrides: Overrides = [],  # noqa: B006
    explain: Annotated[
        bool, typer.Option("--explain", help="Every key with its default and meaning.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List the shipped recipes, print one, or explain every key."""
    from grandrounds.cli.recipe import show_recipe

    show_recipe(name, overrides, explain, as_json)


rewards_app = typer.Typer(help="Try rewards before a model does.", no_args_is_help=True)
app.add_typer(rewards_app, name="rewards", rich_help_panel=PANEL)


@rewards_app.command("test")
def rewards_test(
    target: Annotated[
        str, typer.Argument(help="A recipe, or a function: FILE.py:NAME, package.module:NAME.")
    ],
    source: Annotated[
        str | None, typer.Option("--cases", help="Cases to try them on. Default: those of the recipe.")
    ] = None,
    overrides: Overrides = [],  # noqa: B006
    limit: Annotated[int, typer.Option("--limit", min=2, help="Use at most this many cases.")] = 50,
    as_json: AsJson = False,
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
    as_json: AsJson = False,
) -> None:
    """Compare the recipe's judge with people: share of equal verdicts, Cohen's kappa, difference of scores."""
    from grandrounds.cli.rewards import show_agreement

    show_agreement(recipe, labels, overrides, as_json)


@app.command(rich_help_panel=PANEL)
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
            "--prompt-tokens", min=1, help="Tokens of the longest prompt. Default: counted from the cases."
        ),
    ] = None,
    probe: Annotated[
        bool, typer.Option("--probe/--no-probe", help="Load the model and time a few steps.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Say how much memory a run of the recipe needs, what still fits, and how long a round takes."""
    from grandrounds.cli.plan import show_plan

    show_plan(recipe, overrides, memory, prompt_tokens, probe, as_json)


import_app = typer.Typer(help="Make a recipe from another program's settings.", no_args_is_help=True)
app.add_typer(import_app, name="import", rich_help_panel=PANEL)


@import_app.command("trl")
def import_trl(
    file: Annotated[Path, typer.Argument(help="YAML for GRPO of TRL, Unsloth or axolotl.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="The recipe's file. Default: NAME-recipe.yaml, here.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a recipe, and say what became of every key. Exit code 1 only where no recipe can be made."""
    from grandrounds.cli.imports import write_recipe_of

    write_recipe_of(file, out, as_json)
