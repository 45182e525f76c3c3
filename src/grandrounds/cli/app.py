"""The command line: its commands in the order in which they are needed."""

from __future__ import annotations

from typing import Annotated

import typer

from grandrounds.cli.commands import begin, judging, training, using

app = typer.Typer(
    name="grandrounds",
    help="Fine-tune open-weight language models with GRPO so that they show their reasoning.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for part in (begin, training, judging, using):
    app.add_typer(part.app)


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
