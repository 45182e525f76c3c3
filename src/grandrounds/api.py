"""The Python API: what the command line does, as functions.

from grandrounds import Recipe, compare, evaluate, load_recipe, plan, resume, train
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import Any

from grandrounds._version import __version__
from grandrounds.cases.load import built_whole
from grandrounds.cases.shortcuts import FREQUENCY, label_baselines
from grandrounds.errors import CaseError, RecipeError
from grandrounds.evaluation import Baseline, Comparison, Evaluation
from grandrounds.evaluation import compare as compare_evaluations
from grandrounds.evaluation import evaluate as evaluate_prompts
from grandrounds.evaluation.compare import lot
from grandrounds.evaluation.evaluate import restricted
from grandrounds.evaluation.faithfulness import ANSWER_TOKENS, Asking
from grandrounds.evaluation.faithfulness import faithfulness as measure_faithfulness
from grandrounds.evaluation.robustness import robustness as measure_robustness
from grandrounds.planning.plan import Plan
from grandrounds.planning.planner import plan
from grandrounds.policy.model import Policy
from grandrounds.recipe import MEMORY, Recipe
from grandrounds.recipe_file import load_recipe
from grandrounds.report.run.facts import Logs, Measured, RunFacts, case_facts, copies, read_logs
from grandrounds.report.run.page import write_run_report
from grandrounds.response.grammar import Grammar
from grandrounds.sampling.native import NativeSampler
from grandrounds.sampling.prompts import begun_prompt, fitting_prompt, make_prompts, split_by_length
from grandrounds.sampling.sampler import SamplingSettings
from grandrounds.training.checkpoint import COLD_START, damage_of
from grandrounds.training.fitting import TOO_LONG
from grandrounds.training.folder import RunFolder
from grandrounds.training.run import Run, resume, train
from grandrounds.training.target import Target, open_target
from grandrounds.types import Case, CaseBook

__all__ = [
    "Plan",
    "Recipe",
    "Run",
    "compare",
    "evaluate",
    "load_recipe",
    "plan",
    "report_run",
    "resume",
    "train",
]

# (cases done, cases in all)
Done = Callable[[int, int], None]


@dataclass(frozen=True)
class EvaluationRequest:
    """The cases to evaluate on, and how. None stands for the value in the policy's own recipe.

    source: a file, a Hub dataset, `clinic` or `clinic:NAME OF A HELD-OUT SET`; or cases in memory, as for `train`.
    split: auto (held-out cases of the run's own source, else all), test, train or all.
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


def _source(cases: Any) -> Any:
    """Cases as an `EvaluationRequest` takes them: a file by its name."""
    return str(cases) if isinstance(cases, Path) else cases


def evaluate(
    policy: str | Path,
    cases: Any,
    *,
    samples: int | None = None,
    split: str = "auto",
    limit: int | None = None,
    overrides: Sequence[str] = (),
    faithfulness: bool = False,
    progress: Done | None = None,
) -> Evaluation:
    """Evaluate one policy: a run's folder, a checkpoint, a model folder or a Hub name.

    For a run, cases are built as the run built its own: with its labels, hard options and seed.
    Raises the `GrandRoundsError` family.
    """
    how = EvaluationRequest(_source(cases), split, limit, samples, tuple(overrides), faithfulness)
    return evaluate_target(open_target(str(policy), overrides), how, progress)


def compare(
    policies: Sequence[str | Path] | Mapping[str, str | Path],
    cases: Any,
    *,
    samples: int | None = None,
    split: str = "auto",
    limit: int | None = None,
    overrides: Sequence[str] = (),
    faithfulness: bool = False,
    progress: Done | None = None,
) -> Comparison:
    """Evaluate several policies on the same cases. The first is the regular one, the last the one of interest.

    The cases are built by the first run. Every policy gets the same cases, with the prompt of its own recipe.
    """
    named = policies.items() if isinstance(policies, Mapping) else [("", policy) for policy in policies]
    targets = [open_target(f"{name}={policy}" if name else str(policy), overrides) for name, policy in named]
    how = EvaluationRequest(_source(cases), split, limit, samples, tuple(overrides), faithfulness)
    return compare_targets(targets, how, progress)


def compare_targets(
    targets: Sequence[Target], how: EvaluationRequest, progress: Done | None = None
) -> Comparison:
    """As `compare`, for opened targets."""
    if len(targets) < 2:
        raise RecipeError("a comparison needs two policies", hint="Name another, for example the cold start.")
    return evaluate_together(targets, how, progress)


def evaluate_together(
    targets: Sequence[Target], how: EvaluationRequest, progress: Done | None = None
) -> Comparison:
    """As `compare_targets`, for one target or more."""
    host = next((target for target in targets if target.is_run), targets[0])
    book, cases = host.cases(how.source, how.split)
    evaluations = {
        name: _evaluate(target, book, cases, how, progress)
        for name, target in zip(_distinct_names(targets), targets, strict=True)
    }
    # A case that is too long for one policy is left out for all.
    common = set.intersection(*({case.id for case in one.cases} for one in evaluations.values()))
    if not common:
        raise CaseError(
            "no case fits into the context of every policy", where=how.place, hint="Shorten the cases."
        )
    return compare_evaluations(
        {name: restricted(one, common, "too long for another policy") for name, one in evaluations.items()}
    )


def evaluate_target(target: Target, how: EvaluationRequest, progress: Done | None = None) -> Evaluation:
    """As `evaluate`, for an opened target."""
    book, cases = target.cases(how.source, how.split)
    return _evaluate(target, book, cases, how, progress)


# What a report evaluates unless it is told otherwise.
REPORTED, TRIED, SAMPLES = 300, 50, 8


def report_run(
    run: str | Path,
    out: str | Path | None = None,
    *,
    compare: Sequence[str | Path] = (),
    cases: str | Path | None = None,
    limit: int = REPORTED,
    trials: int = TRIED,
    samples: int = SAMPLES,
    logs_only: bool = False,
    overrides: Sequence[str] = (),
    progress: Done | None = None,
) -> Path:
    """Write a report on a run as one HTML file (default: report.html in its folder); returns its path.

    run: the run's folder, or NAME=FOLDER. compare: policies on the same cases, NAME=POLICY each; the first is the
        regular one. The run's cold start is added by itself.
    cases: other cases than those held out from the run's own source. limit: at most so many, by lot.
    trials: calibration (`samples` answers to each) and robustness on at most so many of them; 0 leaves both out.
    logs_only: load no model; only what the folder holds is reported.
    Raises the `GrandRoundsError` family.
    """
    name, folder, page = place_of_report(run, out)
    logs = read_logs(folder)
    if logs_only:
        why = "the report was made from the logs alone"
        measured = Measured(not_compared=why, not_tried=why)
    else:
        targets = [open_target(str(policy), overrides) for policy in compare]
        asked = ReportRequest(None if cases is None else str(cases), limit, trials, samples)
        measured = _measured(name, logs, targets, asked, overrides, progress)
    today = datetime.now(UTC).date().isoformat()
    write_run_report(page, RunFacts(name, logs, measured, today, __version__))
    return page


def place_of_report(run: str | Path, out: str | Path | None) -> tuple[str, Path, Path]:
    """(the run's name, its folder, the report's file). run: a folder, or NAME=FOLDER."""
    text = str(run)
    name, separator, rest = text.partition("=")
    if not separator or Path(text).exists():
        name, rest = Path(text).resolve().name, text
    folder = Path(rest)
    return name, folder, Path(out) if out is not None else folder / "report.html"


@dataclass(frozen=True)
class ReportRequest:
    """What a report measures. See `report_run`."""

    source: str | None
    limit: int
    trials: int
    samples: int


def _measured(
    name: str,
    logs: Logs,
    others: list[Target],
    how: ReportRequest,
    overrides: Sequence[str],
    progress: Done | None,
) -> Measured:
    """Evaluate the run, its cold start and the other policies on the same cases."""
    source = how.source or logs.recipe.cases.source
    reason = _not_measurable(logs, source)
    if reason:
        return Measured(not_compared=reason, not_tried=reason)
    target = open_target(f"{name}={logs.path}", overrides)
    own = target.owns(source)
    if own:
        RunFolder.open(logs.path).environment_changes()  # refuses files that are no longer the run's own
    book = target.book(source)
    held_out = book.test if own or built_whole(book.fitted) else [*book.train, *book.test]
    held_out = [case for case in held_out if case.gold.kind != "none"]
    if not held_out:
        reason = "no case with a gold answer is held out"
        return Measured(not_compared=reason, not_tried=reason)
    chosen = sorted(held_out, key=lambda case: lot(logs.recipe.seed, case.id))[: how.limit]
    targets = [*others, *_cold_start(target, logs, others, overrides), target]
    facts = case_facts(source, own, book, chosen, held_out)
    facts = replace(facts, trained_on=_trained_on(target, targets, book if own else None, chosen))

    def evaluated(count: int, **further: Any) -> Comparison:
        asked = EvaluationRequest(replace(book, test=chosen[:count]), "test", **further)
        return evaluate_together(targets, asked, progress)

    comparison = evaluated(len(chosen))
    tried = None
    if how.trials:
        tried = evaluated(how.trials, samples=how.samples, faithfulness=True, robustness=True)
    return Measured(comparison, tried, facts, not_tried="they were left out (no trials were asked for)")


def _not_measurable(logs: Logs, source: str) -> str:
    """Why no policy can be evaluated, or ""."""
    if not logs.checkpoint:
        return "the run has no checkpoint yet"
    if source == MEMORY:
        return "the run's cases were Python objects, which are not saved with it; name cases to evaluate on"
    return ""


def _cold_start(
    target: Target, logs: Logs, others: Sequence[Target], overrides: Sequence[str]
) -> list[Target]:
    """The run before its first round, where it has rounds and is not among the others."""
    cold = logs.path / "checkpoints" / COLD_START
    known = {Path(other.model).resolve() for other in (*others, target)}
    if damage_of(cold) is not None or cold.resolve() in known:
        return []
    name = "cold start" if logs.recipe.sft.steps else "untouched"
    return [open_target(f"{name}={cold}", overrides)]


def _trained_on(
    target: Target, targets: Sequence[Target], own: CaseBook | None, chosen: Sequence[Case]
) -> dict[str, int | None]:
    """Policy -> how many of the chosen cases are copies of its training cases; None where these are not known."""
    counts: list[tuple[Target, int | None]] = []
    for one in targets:
        same = next((count for known, count in counts if _same_cases(known, one)), None)
        if same is None and one.is_run and one.recipe.cases.source != MEMORY:
            built = own if own is not None and _same_cases(target, one) else one.book(one.recipe.cases.source)
            same = copies(chosen, built.train)
        counts.append((one, same))
    return {name: count for name, (_, count) in zip(_distinct_names(targets), counts, strict=True)}


def _same_cases(one: Target, other: Target) -> bool:
    """Whether two runs have the same training cases."""
    ours, theirs = ((run.is_run, run.recipe.cases, run.recipe.seed) for run in (one, other))
    return one.is_run and ours == theirs


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
        progress=progress,
    )
    asking = _asking(policy, sampler, grammar, settings, recipe)
    faithful = (
        measure_faithfulness(asking, prompts, progress)
        if how.faithfulness and evaluation.reasoned.value > 0
        else None
    )
    robust = measure_robustness(asking, prompts, progress) if how.robustness else None
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


def _distinct_names(targets: Sequence[Target]) -> list[str]:
    """Each target's name. Where several share a name, the later ones get numbers."""
    names: list[str] = []
    for target in targets:
        choices = chain([target.name], (f"{target.name} ({number})" for number in count(2)))
        names.append(next(name for name in choices if name not in names))
    return names
