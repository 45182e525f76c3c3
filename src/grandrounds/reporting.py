"""Measures what a report on a run says, and writes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from grandrounds._version import __version__
from grandrounds.cases.load import built_whole
from grandrounds.evaluating import EvaluationRequest, distinct_names, evaluate_together, responses
from grandrounds.evaluation.compare import lot
from grandrounds.evaluation.progress import Done, part
from grandrounds.recipe import MEMORY
from grandrounds.report.run.facts import Logs, Measured, RunFacts, case_facts, copies, read_logs
from grandrounds.report.run.page import write_run_report
from grandrounds.training.checkpoint import COLD_START, damage_of
from grandrounds.training.folder import RunFolder
from grandrounds.training.target import Target, open_target
from grandrounds.types import Case, CaseBook

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
    held_out = book.test if own or built_whole(book.fitted) else book.every
    held_out = [case for case in held_out if case.gold.kind != "none"]
    if not held_out:
        reason = "no case with a gold answer is held out"
        return Measured(not_compared=reason, not_tried=reason)
    chosen = sorted(held_out, key=lambda case: lot(logs.recipe.seed, case.id))[: how.limit]
    targets = [*others, *_cold_start(target, logs, others, overrides), target]
    facts = case_facts(source, own, book, chosen, held_out)
    facts = replace(facts, trained_on=_trained_on(target, targets, book if own else None, chosen))

    everything = EvaluationRequest(replace(book, test=chosen), "test")
    trials = EvaluationRequest(
        replace(book, test=chosen[: how.trials]),
        "test",
        samples=how.samples,
        faithfulness=True,
        robustness=True,
    )
    first, second = (responses(targets, asked, asked.source.test) for asked in (everything, trials))
    comparison = evaluate_together(targets, everything, part(progress, 0, first, first + second))
    tried = None
    if how.trials:
        tried = evaluate_together(targets, trials, part(progress, first, second, first + second))
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
    return {name: count for name, (_, count) in zip(distinct_names(targets), counts, strict=True)}


def _same_cases(one: Target, other: Target) -> bool:
    """Whether two runs have the same training cases."""
    ours, theirs = ((run.is_run, run.recipe.cases, run.recipe.seed) for run in (one, other))
    return one.is_run and ours == theirs
