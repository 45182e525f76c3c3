"""Commands that hand a policy on. Other modules do the work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from grandrounds.cli.options import (
    BaseName,
    CheckpointName,
    Converter,
    Engine,
    ExportFolder,
    ExportKinds,
    License,
    Malformed,
    OtherCases,
    Overrides,
    Overwrite,
    Prompts,
    Rounded,
)

PANEL = "Use"
app = typer.Typer()


@app.command(rich_help_panel=PANEL)
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


@app.command(rich_help_panel=PANEL)
def serve(
    policies: Annotated[
        list[str],
        typer.Argument(
            help="Runs, checkpoints, models' folders or GGUF files; NAME=POLICY gives one a name."
        ),
    ],
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on. Any but this machine's own needs an API key.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = 8000,
    key_file: Annotated[
        Path | None,
        typer.Option("--api-key-file", help="File with the API key. Default: GRANDROUNDS_API_KEY, or none."),
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
        Engine, typer.Option("--engine", help="What decodes: our own engine, or vLLM where it is installed.")
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
        engine=engine.value,
    )
    serve_policies(policies, options, key_file, overrides)
