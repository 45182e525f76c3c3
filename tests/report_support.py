"""A run's folder written by hand, and what is measured of it, for reports that are made in no time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from evaluation_support import ANSWER_ONLY, RIGHT, WRONG, FakeSampler, NoMigraine, evaluated, make_case
from monitor_support import one_round

from grandrounds.evaluation import Comparison, compare
from grandrounds.evaluation.trials import DISTURBANCES, DisturbedCase, Faithfulness, Robustness, Trial
from grandrounds.recipe_file import recipe_from
from grandrounds.report.run.facts import Measured, RunFacts, case_facts, read_logs
from grandrounds.training.folder import RunFolder
from grandrounds.types import Case, CaseBook

FINDING = {
    "sign": "length_creep",
    "what": "Completions grow",
    "cause": "`wordy` pays for it",
    "hint": "Lower its weight",
    "numbers": {"before": 1.0},
}


def metrics(rounds: int) -> list[dict[str, Any]]:
    return [
        {
            "round": i,
            "accuracy": 0.5 + 0.4 * i / rounds,
            "reward": i / 10,
            "rewards/accuracy/mean": i / 20,
            "rewards/planted/mean": 0.1,
            "completions/mean_length": 90.0 + i,
            "entropy": 1 / i,
            "tokens_per_second": 1000.0,
            "step_time": 2.0,
            **({"held_out/accuracy": 0.7} if i % 5 == 0 else {}),
        }
        for i in range(1, rounds + 1)
    ]


def write_run(path: Path, rounds: int = 6, rollouts: int = 2, **sections: Any) -> RunFolder:
    """A run that has come to its end, with all the files that one has."""
    rewards = {"accuracy": {"weight": 1.0}, "planted": {"use": "rewards.py:planted", "weight": 0.5}}
    recipe = recipe_from({"rounds": rounds, "rewards": rewards, **sections})
    folder = RunFolder.create(path, recipe)
    for row in metrics(rounds):
        folder.append_metrics(row)
    for number in (0, rounds):
        right = {f"case-{i}": 1.0 for i in range(4)}
        folder.append_evaluation(
            {"round": number, "cases": 4, "accuracy": 0.75, "accuracy_interval": [0.3, 0.95], "right": right}
        )
    for number in range(1, rounds + 1):
        new = number == rounds
        folder.append_monitor(
            {
                "round": number,
                "readings": {},
                "findings": [FINDING] if new else [],
                "said": [FINDING["sign"]] if new else [],
            }
        )
    for number in range(1, rollouts + 1):
        folder.write_rollouts(number, one_round(number, accuracy=0.6))
    return folder


def cases(count: int = 40) -> list[Case]:
    return [
        replace(
            make_case(f"case-{i}", sex="woman" if i % 2 else "man"),
            question=f"A woman of 40 {'who is tired ' * (i % 3)}has chest pain and no fever. What is it?",
        )
        for i in range(count)
    ]


def compared(
    texts: Mapping[str, Any] | None = None, chosen: Sequence[Case] | None = None, samples: int = 1
) -> Comparison:
    """A regular policy that is wrong on the first half, and a reasoning one that is wrong on the last two cases."""
    chosen = chosen or cases()
    ids = [case.id for case in chosen]
    regular = {id: WRONG if i < len(ids) // 2 else ANSWER_ONLY for i, id in enumerate(ids)}
    reasoning = {**dict.fromkeys(ids[-2:], WRONG), **(texts or {})}
    if samples > 1:
        reasoning[ids[0]] = [RIGHT, WRONG, RIGHT, RIGHT]
    policies = {"regular": regular, "reasoning": reasoning}
    return compare(
        {
            name: evaluated(FakeSampler(said), cases=chosen, knowledge=NoMigraine(), samples=samples)
            for name, said in policies.items()
        }
    )


def tried(chosen: Sequence[Case] | None = None) -> Comparison:
    """Four answers to each case, and changes of which half move the answer."""
    comparison = compared(chosen=chosen, samples=4)
    ids = [case.id for case in (chosen or cases())]
    disturbed = tuple(
        DisturbedCase(id, kind, "migraine", "migraine" if i % 2 else "gout", True, bool(i % 2))
        for kind in DISTURBANCES
        for i, id in enumerate(ids)
    )
    trials = tuple(Trial(id, "removed", "B", "A" if i % 2 else "B") for i, id in enumerate(ids))
    evaluations = {
        name: replace(
            evaluation,
            robustness=Robustness(disturbed),
            faithfulness=Faithfulness(trials) if name == "reasoning" else None,
        )
        for name, evaluation in comparison.evaluations.items()
    }
    return replace(comparison, evaluations=evaluations)


def facts_of(path: Path, measured: Measured | None = None) -> RunFacts:
    """The facts of a run's folder, by default with everything measured."""
    book = CaseBook(train=[make_case("train-0")], test=cases())
    about = replace(
        case_facts("cases.jsonl", True, book, cases(), cases()),
        trained_on={"regular": None, "reasoning": 0},
    )
    whole = Measured(compared(), tried(), about)
    return RunFacts("reasoning", read_logs(path), measured or whole, "2026-01-31", "0.1.0")
