"""Mistakes in a command itself, such as an option that does not exist, told as all others are; exit code 2."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Iterable
from typing import Any

import typer

from grandrounds.cli.errors import print_error
from grandrounds.errors import GrandRoundsError

# The family of all that a parser refuses: typer exports only this member of it.
Refused: Any = next(one for one in typer.BadParameter.__mro__ if one.__name__ == "ClickException")


def run_command(app: typer.Typer) -> None:
    """Run the command that the arguments name, and exit with its code."""
    try:
        code = app(prog_name="grandrounds", standalone_mode=False)
    except Refused as error:
        if type(error).__name__ != "NoArgsIsHelpError":  # which has shown the help
            print_error(mistake(error))
        sys.exit(2)
    except typer.Abort:
        raise KeyboardInterrupt from None
    if code == 130:  # how typer ends on Ctrl-C
        raise KeyboardInterrupt
    sys.exit(code or 0)


def mistake(error: Any) -> GrandRoundsError:
    """What a parser refuses, as a message of ours. error: of the family of click's ClickException."""
    context = getattr(error, "ctx", None)
    where = context.command_path if context is not None else "grandrounds"
    what, hint = error.format_message().strip().splitlines()[0].rstrip("."), ""
    if (option := getattr(error, "option_name", None)) and hasattr(error, "possibilities"):
        what, hint = f"there is no option `{option}`", _meant_option(option, context)
    elif name := re.match(r"No such command ['\"]?([^'\"]+)", what):
        what = f"there is no command `{name[1]}`"
        hint = _meant(name[1], getattr(context.command, "commands", {}) if context else ())
    what = re.sub(r"'([^'\s]+)'|(?<![`'\w-])(--[\w-]+)", lambda found: f"`{found[1] or found[2]}`", what)
    what = what[:1].lower() + what[1:].replace(": Value error, ", ": ").replace(": Input ", ": input ")
    return GrandRoundsError(what, where=where, hint=f"{hint} See `{where} --help`.".strip())


def _meant_option(given: str, context: Any) -> str:
    """The option that was meant: a similar one, or a recipe's key, which `--set` takes."""
    options = [one for param in context.command.params for one in (*param.opts, *param.secondary_opts)]
    options = [one for one in options if one.startswith("--")]
    if near := _meant(given, options):
        return near
    if "--set" not in options:
        return ""
    from grandrounds.recipe_help import explain_rows

    wanted = given.strip("-").replace("-", "_")
    keys = [row.key for row in explain_rows() if wanted in (row.key, row.key.rpartition(".")[2])]
    return f"Did you mean `--set {keys[0]}=…`?" if keys else ""


def _meant(given: str, there: Iterable[str]) -> str:
    near = difflib.get_close_matches(given, list(there), n=1, cutoff=0.7)
    return f"Did you mean `{near[0]}`?" if near else ""
