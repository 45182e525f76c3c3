"""Evaluates policies as they lie on the disk on the cases that a source holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import Any

from grandrounds.cases.shortcuts import FREQUENCY, label_baselines
from grandrounds.errors import CaseError, RecipeError
from grandrounds.evaluation import Baseline, Comparison, Evaluation
from grandrounds.evaluation import compare as compare_evaluations
from grandrounds.evaluation import evaluate as evaluate_prompts
from grandrounds.evaluation.evaluate import restricted
from grandrounds.evaluation.faithfulness import ANSWER_TOKENS, Asking
from grandrounds.evaluation.faithfulness import faithfulness as measure_faithfulness
from grandrounds.evaluation.progress import Done, part
from grandrounds.evaluation.robustness import robustness as measure_robustness
from grandrounds.policy.model import Policy
from grandrounds.recipe import MEMORY, Recipe
from grandrounds.response.grammar import Grammar
from grandrounds.sampling.native import NativeSampler
from grandrounds.sampling.prompts import begun_prompt, fitting_prompt, make_prompts, split_by_length
from grandrounds.sampling.sampler import SamplingSettings
from grandrounds.training.fitting import TOO_LONG
from grandrounds.training.target import Target
from grandrounds.types import Case, CaseBook

# Responses to a case in the trials of faithfulness and robustness, about: some are short, some cases have none.
FAITHFULNESS, ROBUSTNESS = 6, 4


@dataclass(frozen=True)
class EvaluationRequest:
    """The cases to evaluate on, and how. None stands for the value in the policy's own recipe.

    source: a file, a Hub dataset, `clinic` or `clinic:NAME OF A HELD-OUT SET`; or cases in memory, as for `train`.
    split: auto (held-out cases of the run's own source, else all), test, validation, train or all.
    faithfulness: also ask each case again, changed and early: some ten short or long responses more for each.
    robustness: also ask each case again with changed options: up to four responses more for each.
    """

    source: Any
    split: str = "auto"
    limit: int | None = None
    samples: int | None = None
    overrides: tuple[str, ...] = ()
    faithfulness: bool = False
    robustness: bool = False

    @property
    def place(self) -> str:
        """The source's name, for messages."""
        return self.source if isinstance(self.source, str) else MEMORY


def own_cases(targets: Sequence[Target]) -> tuple[str, Target]:
    """The source that the first run among the targets was trained on, and that run. CaseError where there is none."""
    run = next((target for target in targets if target.is_run), None)
    if run is None:
        raise CaseError(
            "a model or an adapter has no cases of its own, only a run has",
            where=targets[0].model,
            hint="Name some: --cases FILE, a Hub dataset, or --cases clinic.",
        )
    if run.recipe.cases.source == MEMORY:
        raise CaseError(
            "the run's cases were Python objects, which are not saved with it",
            where=run.name,
            hint="Name some: --cases FILE.",
        )
    return run.recipe.cases.source, run


def compare_targets(
    targets: Sequence[Target], how: EvaluationRequest, progress: Done | None = None
) -> Comparison:
    """As `compare`, for opened targets."""
    if len(targets) < 2:
        raise RecipeError(
            "a comparison needs two policies",
            hint="Name another, such as the cold start: runs/NAME/checkpoints/000000.",
        )
    return evaluate_together(targets, how, progress)


def evaluate_together(
    targets: Sequence[Target], how: EvaluationRequest, progress: Done | None = None
) -> Comparison:
    """As `compare_targets`, for one target or more."""
    host = next((target for target in targets if target.is_run), targets[0])
    book, cases = host.cases(how.source, how.split)
    evaluations, before, whole = {}, 0, responses(targets, how, cases)
    for name, target in zip(distinct_names(targets), targets, strict=True):
        work = responses([target], how, cases)
        evaluations[name] = _evaluate(target, book, cases, how, part(progress, before, work, whole))
        before += work
    # A case that is too long for one policy is left out for all.
    common = set.intersection(*({case.id for case in one.cases} for one in evaluations.values()))
    if not common:
        raise CaseError(
            "no case fits into the context of every policy", where=how.place, hint="Shorten the cases."
        )
    return compare_evaluations(
        {name: restricted(one, common, "too long for another policy") for name, one in evaluations.items()}
    )


def responses(targets: Sequence[Target], how: EvaluationRequest, cases: Sequence[Case]) -> int:
    """About how many responses the targets give in all, for `progress`."""
    asked = len([case for case in cases if case.gold.kind != "none"][: how.limit])
    return asked * sum(sum(_responses(target, how)) for target in targets)


def _responses(target: Target, how: EvaluationRequest) -> tuple[int, int, int]:
    """To one case: as it is, in the trials of faithfulness, in those of robustness."""
    samples = how.samples or target.recipe.evaluation.samples
    return samples, FAITHFULNESS * how.faithfulness, ROBUSTNESS * how.robustness


def evaluate_target(target: Target, how: EvaluationRequest, progress: Done | None = None) -> Evaluation:
    """As `evaluate`, for an opened target."""
    book, cases = target.cases(how.source, how.split)
    return _evaluate(target, book, cases, how, progress)


def _evaluate(
    target: Target, book: CaseBook, cases: Sequence[Case], how: EvaluationRequest, progress: Done | None
) -> Evaluation:
    recipe = target.recipe
    policy = target.load()
    settings = SamplingSettings(
        max_new_tokens=recipe.evaluation.max_new_tokens or recipe.grpo.max_new_tokens,
        temperature=recipe.evaluation.temperature,
        top_p=recipe.evaluation.top_p,
        top_k=recipe.evaluation.top_k,
        min_p=recipe.evaluation.min_p,
        stop=tuple(recipe.grpo.stop),
    )
    asked = [case for case in cases if case.gold.kind != "none"][: how.limit]
    if not asked:
        raise CaseError(
            "no case has a gold answer", where=how.place, hint="There is no accuracy to evaluate."
        )
    once, faithful_ones, robust_ones = (len(asked) * work for work in _responses(target, how))
    whole = once + faithful_ones + robust_ones
    prompts, too_long = split_by_length(policy, asked, recipe.prompt, settings.max_new_tokens)
    if too_long and (recipe.cases.too_long == "error" or not prompts):
        make_prompts(policy, asked, recipe.prompt, settings.max_new_tokens)  # says what does not fit
    skipped = {**book.dropped, **({TOO_LONG: len(too_long)} if too_long else {})}
    sampler = NativeSampler(policy)
    grammar = Grammar(recipe.prompt.reasoning_tag, recipe.prompt.answer_tag)
    evaluation = evaluate_prompts(
        sampler,
        prompts,
        grammar=grammar,
        settings=settings,
        samples=how.samples or recipe.evaluation.samples,
        knowledge=book.knowledge,
        seed=recipe.seed,
        skipped=skipped,
        progress=part(progress, 0, once, whole),
    )
    asking = _asking(policy, sampler, grammar, settings, recipe)
    faithful = (
        measure_faithfulness(asking, prompts, part(progress, once, faithful_ones, whole))
        if how.faithfulness and evaluation.reasoned.value > 0
        else None
    )
    robust = (
        measure_robustness(asking, prompts, part(progress, once + faithful_ones, robust_ones, whole))
        if how.robustness
        else None
    )
    if progress is not None:
        progress(whole, whole)  # where no trial applied, too
    cases = [prompt.case for prompt in prompts]
    trained_on = None if target.owns(how.source) else (target.fitted or {}).get(FREQUENCY)
    found = label_baselines(book, cases, trained_on)
    if book.knowledge is not None:
        found |= book.knowledge.baselines(cases)
    baselines = tuple(Baseline(name, correct) for name, correct in found.items())
    return replace(evaluation, baselines=baselines, faithfulness=faithful, robustness=robust)


def _asking(
    policy: Policy, sampler: NativeSampler, grammar: Grammar, settings: SamplingSettings, recipe: Recipe
) -> Asking:
    """How the trials of faithfulness and robustness ask the policy."""
    most = settings.max_new_tokens
    return Asking(
        sampler,
        ask=partial(fitting_prompt, policy, recipe=recipe.prompt, max_new_tokens=most),
        begin=partial(begun_prompt, policy, max_new_tokens=ANSWER_TOKENS),
        grammar=grammar,
        settings=settings,
        seed=recipe.seed,
    )


def distinct_names(targets: Sequence[Target]) -> list[str]:
    """Each target's name. Several of one name are told apart by their places, `a/best` and `b/best`; by numbers where
    even these are the same."""
    names: list[str] = []
    for target in targets:
        rivals = [one for one in targets if one.name == target.name and one.place != target.place]
        name = _placed(target, rivals) if rivals else target.name
        choices = chain([name], (f"{name} ({number})" for number in count(2)))
        names.append(next(choice for choice in choices if choice not in names))
    return names


def _placed(target: Target, rivals: Sequence[Target]) -> str:
    """The target's name with the end of its place, as long as tells it from its rivals."""
    parts, others = Path(target.place).parts, [Path(one.place).parts for one in rivals]
    size = next(n for n in count(1) if all(parts[-n:] != other[-n:] for other in others))
    end = "/".join(parts[-size:])
    return end if target.name == parts[-1] else f"{target.name} ({end})"
