"""The target of an evaluation: a run, one of its checkpoints, or any model, with the settings it was trained with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grandrounds.cases.load import built_whole, load_cases
from grandrounds.cases.memory import cases_of
from grandrounds.domain import every
from grandrounds.errors import CaseError, PolicyError, RecipeError, RunError, command
from grandrounds.policy.gguf import is_gguf
from grandrounds.policy.load import load_policy, looks_like_path
from grandrounds.policy.model import Policy
from grandrounds.recipe import PolicyRecipe, Recipe
from grandrounds.recipe_file import with_overrides
from grandrounds.training.folder import RECIPE, RunFolder
from grandrounds.training.setup import saved_policy
from grandrounds.types import Case, CaseBook

SPLITS = ("auto", "test", "validation", "train", "all")


@dataclass(frozen=True)
class Target:
    """A policy to evaluate.

    recipe: that of its run, or the defaults for a model without a run. fitted: what its run fitted on its training
    cases. model: the folder or name that its weights are loaded from. place: the folder or name that was given.
    """

    name: str
    model: str
    recipe: Recipe
    fitted: Mapping[str, Any] | None
    is_run: bool
    place: str = ""

    @property
    def policy(self) -> PolicyRecipe:
        """Where the weights are and how they are loaded. Nothing is recomputed in a backward pass, so a run from a GPU
        also loads without one."""
        if self.is_run:
            policy = saved_policy(self.recipe, Path(self.model))
        else:
            policy = self.recipe.policy.model_copy(update={"model": self.model, "adapter": "full"})
        return policy.model_copy(update={"recompute": "nothing"})

    def load(self) -> Policy:
        """Load the weights."""
        return load_policy(self.policy, seed=self.recipe.seed)

    def book(self, source: str) -> CaseBook:
        """The source's cases, built the way the run built its own."""
        cases = self.recipe.cases
        if self.is_run and source != cases.source:
            same_kind = made(source) == made(cases.source)
            changed: dict[str, Any] = {"source": source, "test_source": None, "limit": None, "mix": {}}
            if not same_kind:
                changed["format"] = "auto"
            own = same_file(source, cases.source)
            recipe = cases.model_copy(update=changed)
            return load_cases(recipe, seed=self.recipe.seed, fitted=None if own else self.fitted)
        return load_cases(cases.model_copy(update={"source": source}), seed=self.recipe.seed)

    def owns(self, source: Any) -> bool:
        """Whether the source is the one that the run was trained on."""
        known = self.recipe.cases.source
        return self.is_run and isinstance(source, str) and (source == known or same_file(source, known))

    def cases(self, source: Any, split: str) -> tuple[CaseBook, Sequence[Case]]:
        """The cases to evaluate, and their book.

        source: a name, or cases in memory as `train` takes them; of these all are evaluated, of a CaseBook a split.
        auto: the held-out cases of the run's own source; all cases of any other file.
        """
        if split not in SPLITS:
            raise RecipeError(
                f"there is no split `{split}`", where="--split", hint=f"Use {', '.join(SPLITS)}."
            )
        if not isinstance(source, str):
            given = isinstance(source, CaseBook)
            book = source if given else CaseBook(train=(), test=cases_of(source, self.recipe.cases)[0])
            parts = {"train": book.train, "validation": book.validation} if given else {}
            return book, parts.get(split, book.test)
        book = self.book(source)
        if split == "auto":
            split = "test" if self.owns(source) or built_whole(book.fitted) else "all"
        chosen = {"test": book.test, "train": book.train, "validation": book.validation, "all": book.every}[
            split
        ]
        if not chosen:
            raise CaseError(f"the {split} split is empty", where=source, hint="Choose another --split.")
        return book, chosen


def open_target(text: str, overrides: Sequence[str] = ()) -> Target:
    """The target for NAME=POLICY or POLICY, which is a run's folder, a checkpoint, a model folder or a Hub name."""
    name, separator, rest = text.partition("=")
    if separator and name and not Path(text).exists():
        text = rest
    else:
        name = ""
    path = Path(text)
    place = str(path.resolve()) if path.exists() else text
    called = name or Path(place).name
    run = next((folder for folder in (path, path.parent.parent) if (folder / RECIPE).is_file()), None)
    if run is None:
        _require_folder(text)
        return Target(called, text, with_overrides(Recipe(), overrides), None, False, place)
    folder = RunFolder.open(run)
    checkpoint = folder.checkpoints.latest() if run == path else path
    if checkpoint is None:
        raise RunError(
            "the run has no checkpoint yet", where=text, hint=f"Resume it with: {command('resume', text)}"
        )
    recipe = with_overrides(folder.recipe(), overrides)
    return Target(called, str(checkpoint), recipe, folder.fitted(), True, place)


def _require_folder(text: str) -> None:
    """PolicyError for what can be neither a Hub name nor a folder with a model. Runs before cases are built."""
    path = Path(text)
    if path.is_dir():
        if not any((path / name).is_file() for name in ("config.json", "adapter_config.json")):
            raise PolicyError(
                "the folder holds neither a run nor a model (no recipe.yaml, no config.json)",
                where=text,
                hint="Name a run's folder, one of its checkpoints, or a folder written by save_pretrained.",
            )
    elif looks_like_path(text) and not is_gguf(text):  # a file that is missing is found out later
        raise PolicyError(
            "there is no such folder",
            where=text,
            hint="Name a run's folder, a checkpoint, a model folder or a Hub name.",
        )


def made(source: str) -> str | None:
    """The name of the domain source that builds these cases; None for cases that are read from a file or the Hub."""
    name = source.partition(":")[0]
    return name if name in every("sources") else None


def same_file(one: str, other: str) -> bool:
    """Whether two sources are the same local file."""
    first, second = Path(one), Path(other)
    return first.is_file() and second.is_file() and first.samefile(second)
