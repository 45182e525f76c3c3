"""Writes a run's policy for use elsewhere, and compares each export with the policy before it counts."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from grandrounds.cases.memory import cases_of
from grandrounds.errors import CaseError, PolicyError, RecipeError, RunError
from grandrounds.exporting.card import Card, card_of
from grandrounds.exporting.card_data import hub_name
from grandrounds.exporting.chosen import Chosen, choose
from grandrounds.exporting.gguf import convert, find_converter
from grandrounds.exporting.greedy import ROUNDED_TIE, TIE, Check, Expected, Loaded, compare
from grandrounds.exporting.layout import (
    Source,
    ready,
    whole_model,
    write_adapter,
    write_generation,
    write_merged,
)
from grandrounds.exporting.place import require_free
from grandrounds.loading import describe
from grandrounds.policy.chat import encode_prompt, encode_raw
from grandrounds.policy.load import load_tokenizer
from grandrounds.policy.model import Policy
from grandrounds.recipe import MEMORY, PolicyRecipe, PromptRecipe
from grandrounds.sampling.native import NativeSampler
from grandrounds.sampling.prompts import split_by_length
from grandrounds.sampling.sampler import SamplingSettings, in_order
from grandrounds.training.files import folder_at_once, saving
from grandrounds.types import Case

Kind = Literal["adapter", "merged", "gguf"]
KINDS: tuple[Kind, ...] = ("adapter", "merged", "gguf")
CALLED = {"adapter": "adapter", "merged": "model", "gguf": "GGUF file"}
CARD = "README.md"


@dataclass(frozen=True)
class Wish:
    """What is exported, and how. None stands for a default.

    kinds: none for the adapter, or the whole model where there is no adapter. prompts: how many are compared.
    cases: where their prompts come from, if not from the run's held-out cases. bfloat16: weights of whole models are
    rounded to it. base, license: what the card and the adapter say of the base model and the licence. overrides:
    changes of the recipe for loading and comparing, such as `policy.device=cpu`.
    """

    kinds: tuple[str, ...] = ()
    checkpoint: str | int | None = None
    out: Path | None = None
    prompts: int = 20
    cases: Any = None
    bfloat16: bool = False
    overwrite: bool = False
    base: str | None = None
    license: str | None = None
    converter: Path | None = None
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class Exported:
    """One export. check: what was compared; None for a GGUF file that transformers cannot read back, with why."""

    kind: str
    folder: Path
    check: Check | None
    why: str = ""

    def __str__(self) -> str:
        return f"{self.kind}: {self.folder}, {self.check or f'NOT compared with the policy: {self.why}'}."


def export_run(
    run: Path | str,
    wish: Wish,
    note: Callable[[str], None] = print,
    progress: Callable[[int, int], None] | None = None,
) -> list[Exported]:
    """Export a checkpoint of a run, one folder for each kind. note: is told of each step. progress: called with (steps
    done, steps in all): the policy's own completions, then each export with its comparison.

    Raises the `GrandRoundsError` family. An export that differs from the policy, or was interrupted, leaves nothing.
    """
    chosen = choose(run, wish.checkpoint, wish.overrides)
    kinds = _kinds(wish.kinds, chosen)
    out = wish.out or chosen.run.path / "export"
    for kind in kinds:
        require_free(out / kind, wish.overwrite)
    converter = find_converter(wish.converter) if "gguf" in kinds else None
    note(f"Exporting {', '.join(kinds)} of checkpoint {chosen.name} (after round {chosen.round}).")
    source, expected, card = _of_policy(chosen, wish)
    exported: list[Exported] = []
    for kind in kinds:
        if progress is not None:
            progress(1 + len(exported), 1 + len(kinds))
        exported.append(_export(kind, source, expected, card, out / kind, wish, converter, note))
    if progress is not None:
        progress(1 + len(kinds), 1 + len(kinds))
    return exported


def _kinds(wanted: Sequence[str], chosen: Chosen) -> tuple[str, ...]:
    kinds = tuple(dict.fromkeys(wanted)) or ("adapter" if chosen.has_adapter else "merged",)
    for kind in kinds:
        if kind not in KINDS:
            raise RecipeError(f"there is no export `{kind}`", where="--to", hint=f"Use {', '.join(KINDS)}.")
    if "adapter" in kinds and not chosen.has_adapter:
        raise RunError(
            "this run trained all weights, so there is no adapter",
            where=str(chosen.path),
            hint="Export the whole model: --to merged.",
        )
    return kinds


def _of_policy(chosen: Chosen, wish: Wish) -> tuple[Source, list[Expected], Card]:
    """What needs the policy in memory, which is gone afterwards: its greedy completions above all."""
    policy = chosen.target.load()
    source = Source.of(chosen, policy, bfloat16=wish.bfloat16)
    cases = _cases(chosen, wish.cases)[: wish.prompts]
    expected = _expected(policy, cases, chosen)
    card = card_of(chosen, policy.tokenizer, cases[0], source.base, wish.base, wish.license)
    del policy
    gc.collect()
    return source, expected, card


def _cases(chosen: Chosen, given: Any) -> Sequence[Case]:
    """Held-out cases of the run's own source, or all of another one."""
    own = chosen.recipe.cases.source
    if given is None and own == MEMORY:
        raise CaseError(
            "this run's cases were Python objects, which are not saved with the run",
            where="cases.source",
            hint="Name cases to compare on: --cases SOURCE, or export(…, cases=…).",
        )
    if given is not None and not isinstance(given, str):
        return cases_of(given, chosen.recipe.cases)[0]
    book = chosen.target.book(given or own)
    held_out = given is None or chosen.target.owns(given)
    cases = book.test if held_out else book.every
    if not cases:
        raise CaseError(
            "no cases are held out to compare on",
            where=given or own,
            hint="Name others: --cases SOURCE.",
        )
    return cases


def _expected(policy: Policy, cases: Sequence[Case], chosen: Chosen) -> list[Expected]:
    """The policy's greedy completions, by the run's own sampler."""
    most, form = chosen.recipe.grpo.max_new_tokens, chosen.recipe.prompt
    prompts, too_long = split_by_length(policy, cases, form, most)
    if not prompts:
        raise CaseError(
            f"all {len(too_long)} prompts are too long for the model",
            where=str(chosen.run.path),
            hint="Name others.",
        )
    settings = SamplingSettings(max_new_tokens=most, temperature=0.0)
    groups = NativeSampler(policy).sample(prompts, 1, settings, (chosen.recipe.seed, "export"))
    return [
        Expected(group.prompt, tuple(group.completions[0].tokens.tolist()))
        for group in in_order(prompts, groups)
    ]


def _export(
    kind: str,
    source: Source,
    expected: Sequence[Expected],
    card: Card,
    folder: Path,
    wish: Wish,
    converter: Path | None,
    note: Callable[[str], None],
) -> Exported:
    with saving(f"the export {folder.name}", folder), folder_at_once(folder) as hidden:
        if kind == "adapter":
            write_adapter(source, hidden, wish.base)
            done = Exported(kind, folder, _compared(source.adapted(hidden), source, hidden, expected, kind))
        elif kind == "merged":
            write_merged(source, hidden)
            model = whole_model(hidden, source.chosen.recipe.policy.trust_remote_code)
            done = Exported(kind, folder, _compared(model, source, hidden, expected, kind))
        else:
            assert converter is not None
            done = _gguf(source, expected, hidden, folder, converter)
        (hidden / CARD).write_text(card.text(kind, done.check, done.why), encoding="utf-8")
    note(str(done))
    if kind == "adapter" and wish.base is None and hub_name(source.base) is None:
        note(
            f"adapter_config.json names {source.base}, which is on this machine alone: give the base model's name on "
            "the Hub with --base before you share the adapter, or share the merged model."
        )
    return done


def _gguf(
    source: Source, expected: Sequence[Expected], hidden: Path, folder: Path, converter: Path
) -> Exported:
    """A GGUF file of the merged model. Of what transformers reads back, the weights are compared, on the policy's own
    prompt tokens."""
    called = source.chosen.recipe.name
    name = f"{called}.gguf"
    with tempfile.TemporaryDirectory(dir=hidden) as merged:
        write_merged(source, Path(merged))
        convert(converter, Path(merged), hidden / name, str(source.written).removeprefix("torch."), called)
    write_generation(source, hidden)
    try:
        model = whole_model(hidden, gguf_file=name)
    except Exception as error:  # of a damaged file transformers raises whatever it leads to
        if "not supported" in str(error):
            return Exported("gguf", folder, None, describe(error.__cause__ or error).rstrip("."))
        raise RunError(
            f"the GGUF file cannot be read back: {describe(error)}",
            where=str(converter),
            hint="Try a newer version of llama.cpp.",
        ) from error
    tokenizer = load_tokenizer(PolicyRecipe(model=str(source.chosen.path)))
    loaded = Loaded(ready(model, source, hidden), tokenizer, source.end_ids)
    return Exported("gguf", folder, compare(loaded, expected, CALLED["gguf"], _limit("gguf", source)))


def _compared(model: Any, source: Source, folder: Path, expected: Sequence[Expected], kind: str) -> Check:
    from transformers import AutoTokenizer

    trust = source.chosen.recipe.policy.trust_remote_code
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust)
    _require_same_prompts(tokenizer, expected, source.chosen.recipe.prompt)
    loaded = Loaded(ready(model, source, folder), tokenizer, source.end_ids)
    return compare(loaded, expected, CALLED[kind], _limit(kind, source))


def _limit(kind: str, source: Source) -> float:
    """The largest difference of a tie. Products of weights in 4 bits round, and other programs' round otherwise."""
    packed = source.chosen.recipe.policy.quantize == "4bit"
    return ROUNDED_TIE if packed or (source.rounded and kind != "adapter") else TIE


def _require_same_prompts(tokenizer: Any, expected: Sequence[Expected], form: PromptRecipe) -> None:
    """PolicyError where the exported tokenizer or chat template writes a prompt otherwise than the policy read it."""
    for place, one in enumerate(expected):
        if one.prompt.messages:
            tokens = encode_prompt(tokenizer, one.prompt.messages, form.template_arguments)[0]
        else:
            tokens = encode_raw(tokenizer, one.prompt.text)
        if tokens.tolist() != one.prompt.tokens.tolist():
            raise PolicyError(
                "the exported tokenizer or chat template writes this prompt otherwise than the run did",
                where=f"prompt {place + 1} (case {one.prompt.case.id})",
                hint="Check that the checkpoint's tokenizer files are complete.",
            )
