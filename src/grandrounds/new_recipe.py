"""A commented recipe from a file of cases and a model: what can be found out by looking is filled in."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from grandrounds.cases.formats import guess, recognise
from grandrounds.cases.inspect import CasesReport, inspect_cases
from grandrounds.cases.load import load_cases
from grandrounds.cases.read import read_rows
from grandrounds.domain import Domain, domains
from grandrounds.errors import CaseError, RecipeError, command
from grandrounds.policy.load import load_tokenizer
from grandrounds.recipe import CasesRecipe, PolicyRecipe, Recipe
from grandrounds.recipe_file import recipe_from, with_overrides
from grandrounds.shares import percent
from grandrounds.types import Case, CaseBook

# Rows that columns are guessed from, and prompts that are shown.
LOOKED_AT, SHOWN = 50, 3
# The most frequent answer's share, times what an even spread gives, from which on cases are balanced.
UNEVEN = 1.25
# The share of training cases set aside for validation, and the fewest that the best policy is chosen by.
VALIDATION, FEW_FOR_VALIDATION = 0.1, 30
# Longest response where no demonstration says how long one is, and for brief ones.
USUAL_TOKENS, BRIEF_TOKENS = 512, 128
THINK = "<think>"


@dataclass(frozen=True)
class Entry:
    """One key of a new recipe. comment: why it has this value, or what it means; "" for none."""

    value: Any
    comment: str = ""


Draft = dict[str, "Entry | dict[str, Entry]"]


@dataclass(frozen=True)
class NewRecipe:
    """What `grandrounds init` writes and shows.

    text: the YAML file. look: the command that shows the cases as the recipe reads them. shown: cases to render,
    different ones. report: what the cases hold. notes: what was found out.
    """

    text: str
    look: str
    recipe: Recipe
    tokenizer: Any
    shown: tuple[Case, ...]
    report: CasesReport
    notes: tuple[str, ...] = field(default=())


def new_recipe(
    source: str, model: str, *, domain: str | None = None, overrides: Sequence[str] = ()
) -> NewRecipe:
    """Look at the cases and at the model's tokenizer, and write a recipe for them.

    overrides: "cases.KEY=value": how the cases are read, where that cannot be found out. Raises CaseError for cases
    that cannot be read, PolicyError for a model whose tokenizer cannot be loaded, RecipeError for an unknown domain or
    a wrong override.
    """
    if wrong := [one for one in overrides if not one.startswith("cases.")]:
        raise RecipeError(
            f"`{wrong[0]}` is no key of the section `cases`",
            where="--set",
            hint="--set says how the cases are read, such as cases.columns.answer=gold; change other keys in the file.",
        )
    given = with_overrides(Recipe(), [f"cases.source={json.dumps(source)}", *overrides])
    columns, notes = _columns(given)
    given = with_overrides(given, [f"cases.columns={json.dumps(columns)}"])
    wanted = None if domain is None else _domain(domain)
    tokenizer = load_tokenizer(PolicyRecipe(model=model))
    book = load_cases(given.cases, seed=given.seed)
    report = inspect_cases(book, lengths=lambda texts: [len(tokenizer.encode(text)) for text in texts])
    wanted = wanted or _domain_of(report.format)
    found = _Looked(book, report, model, wanted, THINK in str(tokenizer.chat_template))
    look = _look(given.cases)
    text = written(_draft(given, found), given.cases.source, look)
    return NewRecipe(
        text,
        look,
        recipe_from(yaml.safe_load(text)),
        tokenizer,
        _different(book),
        report,
        (*notes, *_told(found)),
    )


def _look(cases: CasesRecipe) -> str:
    """The command that shows the cases, read as here."""
    usual = type(cases)()
    settings = {
        name: value
        for name, value in cases.model_dump(mode="json").items()
        if name not in ("source", "columns") and getattr(usual, name) != getattr(cases, name)
    }
    given = {f"columns.{ours}": theirs for ours, theirs in cases.columns.items()} | settings
    sets = [
        part
        for name, value in given.items()
        for part in ("--set", f"cases.{name}={value if isinstance(value, str) else json.dumps(value)}")
    ]
    return command("cases", cases.source, *sets)


def _columns(given: Recipe) -> tuple[dict[str, str], list[str]]:
    """The mapping of columns: the user's, or else a guess where no format has the source's own; and a note on it."""
    if given.cases.columns or given.cases.format != "auto" or given.cases.source.partition(":")[0] in _made():
        return dict(given.cases.columns), []
    rows = read_rows(given.cases.source, LOOKED_AT, given.cases.encoding)
    try:
        recognise(rows, "auto", {}, given.cases.source)
        return {}, []
    except CaseError as error:
        columns = guess.guessed_columns(row.values for row in rows if row.error is None)
        try:
            recognise(rows, "auto", columns, given.cases.source)
        except (CaseError, RecipeError):
            raise error from None
        named = ", ".join(f"`{theirs}` is read as the {ours}" for ours, theirs in columns.items())
        return columns, [f"Columns, by a guess to check: {named}."]


def _made() -> set[str]:
    return {name for domain in domains() for name in domain.sources}


def _domain(name: str) -> Domain:
    found = next((one for one in domains() if name.lower() in (one.name, *one.called)), None)
    if found is None:
        raise RecipeError(
            f"there is no domain `{name}`",
            where="--domain",
            hint=f"There are {', '.join(one.name for one in domains() if one.name != 'clinic')}.",
        )
    return found


def _domain_of(format: str) -> Domain | None:
    return next((one for one in domains() if format in (*one.formats, *one.sources)), None)


@dataclass(frozen=True)
class _Looked:
    """What was found out. thinks: the model's chat template has <think> tags."""

    book: CaseBook
    report: CasesReport
    model: str
    domain: Domain | None
    thinks: bool

    @property
    def kinds(self) -> set[str]:
        return set(self.report.kinds)

    @property
    def demonstrated(self) -> bool:
        """Whether every training case has a demonstration."""
        return bool(self.book.train) and all(case.demonstration for case in self.book.train)

    @property
    def brief(self) -> bool:
        """Whether short demonstrations can be made from facts and gold answers."""
        return not self.demonstrated and all(case.facts and case.gold.text for case in self.book.train)

    @property
    def share(self) -> float:
        """Of the most frequent answer, where few answers are possible; else 0."""
        counts = self.report.letters or (self.report.answers if "label" in self.kinds else {})
        return max(counts.values()) / sum(counts.values()) if counts else 0.0

    @property
    def uneven(self) -> bool:
        return self.share > UNEVEN / max(2, len(self.report.letters or self.report.answers))

    @property
    def longest(self) -> int:
        """Tokens that a response may have: half as long again as the demonstrations, in steps of 64."""
        if "demonstration" in self.report.lengths and self.demonstrated:
            wanted = 1.5 * self.report.lengths["demonstration"].p95 + 32
            return max(BRIEF_TOKENS, int(-(-wanted // 64) * 64))
        return BRIEF_TOKENS if self.brief else USUAL_TOKENS


def _draft(given: Recipe, found: _Looked) -> Draft:
    train, test = len(found.book.train), len(found.book.test)
    teach = found.demonstrated or found.brief
    cases_per_round = min(16, max(1, train))
    aside = _set_aside(found)
    which = "validation ones, which choose the best policy" if aside else "held-out ones"
    return {
        "name": Entry(_name(given.cases.source), "the run's folder is runs/NAME"),
        "seed": Entry(given.seed),
        "rounds": Entry(100, f"of {cases_per_round} cases each; a run can be made longer when it is resumed"),
        "cases": _cases(given, found),
        "prompt": {
            "reasoning_tag": Entry(
                "think" if found.thinks else "reasoning",
                "the model's own tag: nothing to unlearn" if found.thinks else "around the reasoning",
            ),
            "answer_tag": Entry("answer", "around the answer"),
        },
        "policy": {
            "model": Entry(found.model, "a folder, a Hub name, a run or a GGUF file"),
            "adapter": Entry("lora", "or full: all weights, with about six times the memory"),
            "lora_rank": Entry(16),
            "lora_alpha": Entry(32),
        },
        "sft": {
            "steps": Entry(
                60 if teach else 0,
                "a warm-up on demonstrations, which teaches the form"
                if teach
                else "no warm-up: these cases have no demonstrations (a column `reasoning`) to learn from",
            ),
            **({"batch_cases": Entry(8), "learning_rate": Entry(1e-4)} if teach else {}),
        },
        "grpo": {
            "group_size": Entry(
                8, "completions per case; more gives a steadier signal and costs as much more"
            ),
            "cases_per_round": Entry(cases_per_round),
            "max_new_tokens": Entry(found.longest, "longest response; the run tells when many are cut off"),
            "learning_rate": Entry(2e-5),
            "warmup_rounds": Entry(5),
            "mask_truncated": Entry(True, "a response that was cut off is neither right nor wrong"),
        },
        "rewards": _rewards(found),
        "checkpoint": {"every": Entry(20), "keep": Entry(3)},
        **(
            {"evaluation": {"every": Entry(10), "cases": Entry(min(200, aside or test), which)}}
            if aside or test
            else {}
        ),
    }


def _set_aside(found: _Looked) -> int:
    """About how many cases are for validation; 0 where they would be too few to choose by."""
    aside = round(VALIDATION * len(found.book.train))
    return aside if aside >= FEW_FOR_VALIDATION else 0


def _cases(given: Recipe, found: _Looked) -> dict[str, Entry]:
    report, own = found.report, given.cases
    source = Entry(own.source, f"{report.count:,} rows, read as `{report.format}`")
    usual = type(own)()
    entries = {
        name: Entry(value, "our name: yours" if name == "columns" else "")
        for name, value in own.model_dump(mode="json").items()
        if name != "source" and getattr(usual, name) != getattr(own, name)
    }
    if own.test_source is None:
        entries["test_fraction"] = Entry(
            own.test_fraction, f"held out: {len(found.book.test):,} cases, which are never trained on"
        )
    if aside := _set_aside(found):
        entries["validation_fraction"] = Entry(
            VALIDATION,
            f"set aside: about {aside:,} cases, which choose the best policy, so that the test stays unseen",
        )
    if found.uneven:
        entries["balance"] = Entry(
            "label", f"one answer is right in {percent(found.share)} of the cases: knowing that must not pay"
        )
    if found.brief:
        entries["demonstrations"] = Entry("brief", "two lines made from each case's facts and gold answer")
    return {"source": source, **entries}


def _rewards(found: _Looked) -> dict[str, Entry]:
    starts = dict(found.domain.starts_with) if found.domain else {}
    judged = any(weight >= 1 for weight in starts.values())
    rewards: dict[str, Entry] = {}
    if found.kinds - {"none"} and not judged:
        rewards["accuracy"] = Entry({"weight": 1.0}, _judged(found.kinds))
    for name, weight in starts.items():
        rewards[name] = Entry(
            {"weight": weight}, f"of the domain {found.domain.name}" if found.domain else ""
        )
    rewards["format"] = Entry({"weight": 0.2}, "reasoning, then answer, and nothing else")
    if found.kinds & {"choice", "label"}:
        rewards["consistency"] = Entry({"weight": 0.2}, "the answer is what the reasoning concludes")
    if all(case.facts for case in found.book.train):
        rewards["evidence"] = Entry({"weight": 0.2}, "findings that are cited are in the case")
    return rewards


def _judged(kinds: set[str]) -> str:
    said = {"choice": "the right option", "choices": "all right options and no other", "number": "the right number",
            "label": "the right label", "text": "the right text, a synonym or a close spelling"}  # fmt: skip
    return "; ".join(said[kind] for kind in sorted(kinds) if kind in said) or "the answer is the gold one"


def _told(found: _Looked) -> list[str]:
    """What the user should know about the draft."""
    told = []
    if found.kinds == {"none"} and not (
        found.domain and any(w >= 1 for w in found.domain.starts_with.values())
    ):
        told.append("The cases have no gold answers: add a reward of your own, or `judge`, before you train.")
    if not found.book.test:
        told.append("There are too few cases to hold some out: add a file by cases.test_source.")
    if not found.demonstrated and not found.brief and not found.thinks:
        told.append(
            "Without demonstrations the model has to know the form from its instructions; a small one may not."
        )
    return told


def _different(book: CaseBook) -> tuple[Case, ...]:
    """Cases to show: the shortest question, the longest, and one between."""
    cases = sorted(book.train, key=lambda case: len(str(case.question)))
    places = sorted({0, len(cases) // 2, len(cases) - 1}) if cases else []
    return tuple(cases[place] for place in places[:SHOWN])


def _name(source: str) -> str:
    name = re.sub(r"\.gz$", "", Path(source.partition(":")[0]).name)
    name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()  # ä: a
    return re.sub(r"[^A-Za-z0-9._-]+", "-", Path(name).stem).strip("-.") or "own"


def written(draft: Mapping[str, Any], source: str, look: str) -> str:
    """The draft as YAML with its comments."""
    lines = [
        f"# Made by `grandrounds init` for {Path(source).name}. Look at the cases, try the rewards, then train:",
        f"#   {look}",
        "# Every key with its default and meaning: grandrounds recipe --explain",
    ]
    for name, entry in draft.items():
        if isinstance(entry, Entry):
            lines.append(_line(name, entry))
            continue
        lines += ["", f"{name}:", *(f"  {_line(key, one)}" for key, one in entry.items())]
        if name == "rewards":
            lines += [
                "  # Your own function, f(prompts, completions, **columns) -> list of numbers or None:",
                '  # politeness: { use: "my_rewards.py:politeness", weight: 0.3 }',
            ]
    return "\n".join(lines) + "\n"


def _line(name: str, entry: Entry) -> str:
    value = str(
        yaml.safe_dump(
            entry.value, default_flow_style=True, width=10_000, allow_unicode=True, sort_keys=False
        )
    )
    value = value.removesuffix("\n").removesuffix("\n...")
    return f"{name}: {_number(value)}" + (f" # {entry.comment}" if entry.comment else "")


def _number(value: str) -> str:
    """YAML reads 2e-05 as text."""
    return re.sub(r"^(\d)e-0?(\d+)$", r"\1.0e-\2", value)
