"""What the numbers of this report cannot say, in plain words, from the facts of the run."""

from __future__ import annotations

from collections.abc import Iterator

from grandrounds.evaluation.compare import Comparison
from grandrounds.report import words
from grandrounds.report.run.facts import CaseFacts, Logs, RunFacts
from grandrounds.report.words import cases as count_cases

# Fewer held-out cases leave an interval some ten points wide.
FEW = 400


def limits_of(facts: RunFacts) -> list[str]:
    """One or two sentences each, the gravest first."""
    logs, measured = facts.logs, facts.measured
    found = [logs.notice] if logs.notice else []
    found += _of_the_run(logs)
    if measured.comparison is None:
        found.append(f"No policy was evaluated for this report: {measured.not_compared}.")
    if measured.cases is not None:
        found += _of_the_cases(measured.cases)
    if measured.comparison is not None:
        found += _of_the_comparison(measured.comparison)
        found += _of_choosing(logs, measured.comparison)
    if measured.tried is None:
        found.append(f"Calibration and robustness were not measured: {measured.not_tried}.")
    found.append(
        "A reasoning that is shown need not be what led to the answer. Whether it is true was checked only where a "
        "program can check it; no person has read the responses for this report."
    )
    found.append(
        "Nobody has used this model on real work for this report. It says nothing of how people would use it, and it "
        "approves no use."
    )
    return found


def _of_the_run(logs: Logs) -> Iterator[str]:
    if not logs.finished:
        stopped = (
            " It may have stopped by itself (evaluation.patience)." if logs.recipe.evaluation.patience else ""
        )
        yield (
            f"The run has not come to its end: {logs.rounds_done:,} of {logs.recipe.rounds:,} rounds are done.{stopped}"
        )
    yield (
        f"One run with one seed ({logs.recipe.seed}). Another seed gives another model; how different it would be was "
        "not measured, and the intervals do not include it."
    )
    if logs.rolled_back:
        yield f"The run was taken back to an earlier checkpoint {len(logs.rolled_back):,} times by its monitor."
    if logs.changes:
        yield "Settings were changed while the run was under way; they are listed under “What was trained on what”."
    if not logs.monitor and logs.recipe.rounds:
        yield "No monitor watched this run, or its notes are missing: signs of reward hacking would not be listed here."
    if str(logs.environment.get("code") or "").endswith("+changes"):
        yield "The program had uncommitted changes when the run began, so its version does not say exactly what ran."


def _of_the_cases(cases: CaseFacts) -> Iterator[str]:
    if cases.evaluated < FEW:
        yield (
            f"{count_cases(cases.evaluated)} are few: only differences of several percentage points can be told from "
            "chance, and fewer still within groups."
        )
    if cases.own:
        yield (
            "The held-out cases come from the same source as the training cases. Cases of another hospital, year or "
            "author may be answered less well; that was not measured."
        )
    else:
        yield f"The evaluated cases are not held out from the run's own source, but of {cases.source}."
    for name, count in cases.trained_on.items():
        if count is None:
            yield (
                f"What {name} was trained on is not known here. If the evaluated cases were among it, its accuracy is "
                "not that on new cases."
            )
        elif count:
            yield (
                f"{name} was trained on copies of {count:,} of the {cases.evaluated:,} evaluated cases: its accuracy "
                "is not that on new cases."
            )


def _of_the_comparison(comparison: Comparison) -> Iterator[str]:
    last = comparison.evaluations[comparison.names[-1]]
    if warning := words.trained_on(last):
        yield warning
    if all(case.options for case in last.cases):
        yield "All cases offer options to choose from. How often it is right without options was not measured."
    if last.samples == 1:
        yield "Each case was answered once, by the likeliest token at every step. Sampled answers can differ."
    if any(case.group for case in last.cases):
        yield "Some cases belong together (one patient, one publication). The paired test takes them as independent."
    for reason, count in last.skipped.items():
        yield f"{count_cases(count)} not asked: {reason}."


def _of_choosing(logs: Logs, comparison: Comparison) -> Iterator[str]:
    """Whether evaluated cases had a part in how the run went."""
    seen = {id for row in logs.evaluations for id in row.get("right") or {}}
    both = sum(case.id in seen for case in comparison.evaluations[comparison.names[-1]].cases)
    if not both:
        return
    were, use = "was" if both == 1 else "were", "to choose the best checkpoint"
    if logs.recipe.evaluation.patience:
        use += " and when to stop"
    yield (
        f"{both:,} of the {comparison.count:,} evaluated cases {were} also looked at while training, {use}. The "
        f"checkpoint reported on is {logs.checkpoint}; if it was chosen by these cases, its accuracy on them is "
        "somewhat too high."
    )
