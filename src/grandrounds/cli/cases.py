"""The command `cases`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from grandrounds.cli.as_json import print_json
from grandrounds.errors import PolicyError

if TYPE_CHECKING:
    from grandrounds.cases.inspect import CountLengths


def show_cases(
    source: str,
    format: str,
    overrides: Sequence[str],
    tokenizer: str | None,
    policy: str | None,
    as_json: bool,
) -> None:
    """Read a source as a run would, and print a report on it; with a policy, one case as its tokens."""
    from grandrounds.cases.inspect import inspect_cases
    from grandrounds.cases.load import load_cases
    from grandrounds.recipe import Recipe
    from grandrounds.recipe_file import with_overrides

    given = [f"cases.source={json.dumps(source)}", f"cases.format={json.dumps(format)}"]
    recipe = with_overrides(Recipe(), [*given, *overrides])
    counted_by = tokenizer or policy
    lengths = token_lengths(counted_by) if counted_by else None
    book = load_cases(recipe.cases, seed=recipe.seed)
    report = inspect_cases(book, lengths=lengths)
    if as_json:
        print_json({"source": source, **report.to_json()})
        return
    from rich.console import Console

    from grandrounds.report.cases_table import print_cases

    console = Console(highlight=False)
    print_cases(console, source, report)
    if policy is not None:
        from grandrounds.policy.load import load_tokenizer
        from grandrounds.report.cases_table import print_rendered
        from grandrounds.sampling.rendered import rendered

        shown = next(case for case in book.every if case.id == report.shown[0].id)
        chosen = recipe.policy.model_copy(update={"model": policy})
        print_rendered(console, "The first of these", rendered(load_tokenizer(chosen), shown, recipe.prompt))


def token_lengths(tokenizer: str) -> CountLengths:
    """A function that counts tokens of a tokenizer. Raises PolicyError where it cannot be loaded."""
    from grandrounds.cli.train import quiet_libraries

    quiet_libraries()
    from transformers import AutoTokenizer

    from grandrounds.policy.gguf import is_gguf, unpacked

    source = unpacked(Path(tokenizer)) if is_gguf(tokenizer) else tokenizer
    try:
        loaded = AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise PolicyError(
            f"the tokenizer cannot be loaded: {str(error).splitlines()[0][:200]}",
            where=tokenizer,
            hint="Name a model folder, or a Hub name that can be reached."
            if not Path(tokenizer).exists()
            else "",
        ) from None
    return lambda texts: [
        len(tokens) for tokens in loaded(list(texts), add_special_tokens=False)["input_ids"]
    ]
