"""The Python API: what the command line does, as functions.

from grandrounds import Recipe, compare, evaluate, load_recipe, plan, resume, train
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count
from pathlib import Path
from typing import Any

from grandrounds.errors import RecipeError
from grandrounds.evaluation import Baseline, Comparison, Evaluation, examine
from grandrounds.evaluation import compare as compare_evaluations
from grandrounds.planning.plan import Plan, plan
from grandrounds.recipe import Recipe
from grandrounds.recipe_file import load_recipe
from grandrounds.response.grammar import Grammar
from grandrounds.sampling.native import NativeSampler
from grandrounds.sampling.prompts import make_prompts
from grandrounds.sampling.sampler import SamplingSettings
from grandrounds.training.run import Run, resume, train
from grandrounds.training.subject import Subject, open_subject
from grandrounds.types import Case, CaseBook

__all__ = ["Plan", "Recipe", "Run", "compare", "evaluate", "load_recipe", "plan", "resume", "train"]

# (cases done, cases in all)
Done = Callable[[int, int], None]


@dataclass(frozen=True)
class Examination:
    """On what policies are examined, and how; None takes the policy's own recipe.

    source: a file, a Hub dataset, `clinic` or `clinic:NAME OF A HELD-OUT SET`; or cases in memory, as `train` has them.
    split: auto (held-out cases of the run's own source, else all), test, train or all.
    """

    source: Any
    split: str = "auto"
    limit: int | None = None
    samples: int | None = None
    overrides: tuple[str, ...] = ()


def evaluate(
    policy: str | Path,
    cases: Any,
    *,
    samples: int | None = None,
    split: str = "auto",
    limit: int | None = None,
    overrides: Sequence[str] = (),
    progress: Done | None = None,
) -> Evaluation:
    """Examine one policy: a run's folder, a checkpoint, a model folder or a Hub name.

    Given a run, cases are built as the run built its own: its labels, hard options and seed.
    Raises the `GrandRoundsError` family.
    """
    how = Examination(
        str(cases) if isinstance(cases, Path) else cases, split, limit, samples, tuple(overrides)
    )
    return examine_subject(open_subject(str(policy), overrides), how, progress)


def compare(
    policies: Sequence[str | Path] | Mapping[str, str | Path],
    cases: Any,
    *,
    samples: int | None = None,
    split: str = "auto",
    limit: int | None = None,
    overrides: Sequence[str] = (),
    progress: Done | None = None,
) -> Comparison:
    """Examine several policies on the same cases; the first is the regular one, the last the one of interest.

    The cases are the first run's: every policy is asked them as they stand, in the form of its own recipe.
    """
    named = policies.items() if isinstance(policies, Mapping) else [("", policy) for policy in policies]
    subjects = [
        open_subject(f"{name}={policy}" if name else str(policy), overrides) for name, policy in named
    ]
    how = Examination(
        str(cases) if isinstance(cases, Path) else cases, split, limit, samples, tuple(overrides)
    )
    return compare_subjects(subjects, how, progress)


def compare_subjects(
    subjects: Sequence[Subject], how: Examination, progress: Done | None = None
) -> Comparison:
    """As `compare`, for opened subjects."""
    if len(subjects) < 2:
        raise RecipeError("a comparison needs two policies", hint="Name another, for example the cold start.")
    host = next((subject for subject in subjects if subject.is_run), subjects[0])
    book, cases = host.cases(how.source, how.split)
    evaluations = {
        name: _examine(subject, book, cases, how, progress)
        for name, subject in zip(_distinct_names(subjects), subjects, strict=True)
    }
    return compare_evaluations(evaluations)


def examine_subject(subject: Subject, how: Examination, progress: Done | None = None) -> Evaluation:
    """As `evaluate`, for an opened subject."""
    book, cases = subject.cases(how.source, how.split)
    return _examine(subject, book, cases, how, progress)


def _examine(
    subject: Subject, book: CaseBook, cases: Sequence[Case], how: Examination, progress: Done | None
) -> Evaluation:
    recipe = subject.recipe
    policy = subject.load()
    settings = SamplingSettings(
        max_new_tokens=recipe.evaluation.max_new_tokens or recipe.grpo.max_new_tokens,
        temperature=recipe.evaluation.temperature,
        top_p=recipe.evaluation.top_p,
        top_k=recipe.evaluation.top_k,
        min_p=recipe.evaluation.min_p,
        stop=tuple(recipe.grpo.stop),
    )
    asked = cases[: how.limit]
    prompts = make_prompts(policy, asked, recipe.prompt, settings.max_new_tokens)
    evaluation = examine(
        NativeSampler(policy),
        prompts,
        grammar=Grammar(recipe.prompt.reasoning_tag, recipe.prompt.answer_tag),
        settings=settings,
        samples=how.samples or recipe.evaluation.samples,
        knowledge=book.knowledge,
        seed=recipe.seed,
        skipped=book.dropped,
        progress=progress,
    )
    if book.knowledge is None:
        return evaluation
    baselines = tuple(Baseline(name, correct) for name, correct in book.knowledge.baselines(asked).items())
    return replace(evaluation, baselines=baselines)


def _distinct_names(subjects: Sequence[Subject]) -> list[str]:
    """Each subject's name; numbered where two share one."""
    names: list[str] = []
    for subject in subjects:
        choices = chain([subject.name], (f"{subject.name} ({number})" for number in count(2)))
        names.append(next(name for name in choices if name not in names))
    return names
