"""Controls at equal compute: from one cold start, what does each way of spending the same rounds bring?

    grpo          the recipe's own rewards
    random        a coin decides each completion's reward
    format        only the form is rewarded
    rejection     the same sampled groups; SFT on the completions that are right (STaR, arXiv:2203.14465)
    sft           continued SFT on the demonstrations, as many completion tokens as grpo sampled

    python benchmarks/controls.py runs/demo/reasoning --rounds 20 --out runs/controls --arms grpo
    python benchmarks/controls.py runs/demo/reasoning --rounds 20 --out runs/controls --result controls.json

Every arm starts from the run's checkpoints/000000, an adapter merged into its model, keeps the recipe, and is evaluated
on the same held-out cases. An arm that was interrupted goes on, `rejection` from its beginning. With --result the table
is written into benchmarks/results.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np

from bench.record import RESULTS, record
from grandrounds.algorithm.grpo import Position, collect
from grandrounds.algorithm.packing import likelihood_packs
from grandrounds.algorithm.schedule import learning_rate
from grandrounds.api import compare
from grandrounds.cli.train import quiet_libraries
from grandrounds.evaluation import Comparison
from grandrounds.policy.load import SCRATCH
from grandrounds.recipe import Recipe
from grandrounds.recipe_file import with_overrides
from grandrounds.training.checkpoint import COLD_START
from grandrounds.training.folder import RunFolder
from grandrounds.training.progress import PlainProgress, SilentProgress
from grandrounds.training.run import resume, train
from grandrounds.training.saving import save_checkpoint
from grandrounds.training.setup import assemble, grpo_learner

ARMS = ("grpo", "random", "format", "rejection", "sft")
NAMES = {
    "grpo": "GRPO",
    "random": "random reward",
    "format": "reward for the form alone",
    "rejection": "rejection sampling, then SFT",
    "sft": "continued SFT, as many tokens",
}
COLUMNS = [
    "arm",
    "accuracy",
    "95 % interval",
    "form kept",
    "valid, of right answers",
    "McNemar against the cold start",
]


def coin(sample) -> float:  # type: ignore[no-untyped-def]
    """0 or 1 by a hash of the completion's tokens: says nothing about the answer, the same on every machine."""
    digest = hashlib.blake2b(np.asarray(sample.completion.tokens, np.int64).tobytes(), digest_size=1).digest()
    return float(digest[0] & 1)


def main() -> None:
    """Run the arms and print one row each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="a finished run whose cold start the arms share")
    parser.add_argument("--out", type=Path, default=Path("runs/controls"))
    parser.add_argument("--rounds", type=int, help="of each arm; default: the run's own number")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--result", help="the name of the file in benchmarks/results")
    arguments = parser.parse_args()
    quiet_libraries()
    base = RunFolder.open(arguments.run)
    cold = base.path / "checkpoints" / COLD_START
    recipe = base.recipe()
    whole = recipe.policy.model == SCRATCH or recipe.policy.adapter == "full"
    changed = "policy.adapter=full" if whole else "policy.merge=true"
    recipe = with_overrides(recipe, [f"policy.model={cold}", changed, "sft.steps=0", "guard.enabled=false"])
    if arguments.rounds:
        recipe = with_overrides(recipe, [f"rounds={arguments.rounds}"])
    policies = {"cold start": cold}
    for arm in arguments.arms:
        folder = arguments.out / arm
        policies[arm] = folder
        if not folder.exists() or not RunFolder.open(folder).checkpoints.latest(lambda damage: None):
            shutil.rmtree(folder, ignore_errors=True)
            _train(arm, recipe, cold, folder)
        elif not resume(folder).finished:
            sys.exit(130)
    comparison = compare(policies, recipe.cases.source)
    (arguments.out / "controls.json").write_text(json.dumps(comparison.to_json(), indent=1), encoding="utf-8")
    rows = table(comparison)
    for row in [COLUMNS, *rows]:
        print("".join(f"{cell:<18}" for cell in row))
    if arguments.result:
        note = f"{comparison.count} held-out cases; {recipe.rounds} rounds of {_completions(recipe)} completions."
        record(RESULTS / arguments.result, COLUMNS, rows, note)


def table(comparison: Comparison) -> list[list[str]]:
    """A row for each policy, and for each baseline."""
    tests = {pair.after: pair for pair in comparison.pairs if pair.before == "cold start"}
    rows = []
    for name, evaluation in comparison.evaluations.items():
        row, pair = evaluation.to_json(cases=False), tests.get(name)
        low, high = row["accuracy_interval"]
        valid = row["validity_given_correct"]
        rows.append(
            [
                NAMES.get(name, name),
                f"{row['accuracy']:.1%}",
                f"{low:.1%}–{high:.1%}",
                f"{row['format_rate']:.1%}",
                "–" if valid is None else f"{valid:.1%}",
                f"p = {pair.p:.2g}" if pair else "",
            ]
        )
    newest = list(comparison.evaluations.values())[-1]
    for baseline in newest.baselines:
        found = baseline.accuracy
        low, high = found.interval
        rows.append([baseline.name, f"{found.value:.1%}", f"{low:.1%}–{high:.1%}", "", "", ""])
    return rows


def _completions(recipe: Recipe) -> int:
    return recipe.grpo.cases_per_round * recipe.grpo.group_size


def _train(arm: str, recipe: Recipe, cold: Path, folder: Path) -> None:
    here = Path(__file__).resolve()
    if arm == "grpo":
        train(recipe, folder)
    elif arm == "random":
        rewards = {"coin": {"use": f"{here}:coin", "weight": 1.0}}
        train(Recipe.model_validate({**recipe.model_dump(), "rewards": rewards}), folder)
    elif arm == "format":
        rewards = {"format": {"weight": 1.0}}
        train(Recipe.model_validate({**recipe.model_dump(), "rewards": rewards}), folder)
    elif arm == "sft":
        tokens = RunFolder.open(folder.parent / "grpo").metrics()[-1]["num_tokens"]
        steps = round(tokens / _tokens_per_step(recipe, cold))
        train(with_overrides(recipe, ["rounds=0", f"sft.steps={steps}"]), folder)
    else:
        _reject(recipe, folder)


def _tokens_per_step(recipe: Recipe, cold: Path) -> float:
    """Completion tokens of one SFT step, from the first thousand demonstrations."""
    from transformers import AutoTokenizer

    from grandrounds.cases.load import load_cases

    cases = load_cases(recipe.cases, seed=recipe.seed).train[:1000]
    texts = [case.demonstration.reasoning for case in cases if case.demonstration]
    tokens = AutoTokenizer.from_pretrained(cold)(texts, add_special_tokens=False)["input_ids"]
    return recipe.sft.batch_cases * float(np.mean([len(row) for row in tokens]))


def _reject(recipe: Recipe, path: Path) -> None:
    """Rounds of sampling as in GRPO; each step is SFT on the right completions, every token counting the same."""
    folder = RunFolder.create(path, recipe)
    with folder.locked(), PlainProgress() if sys.stdout.isatty() else SilentProgress() as progress:
        setup = assemble(recipe, folder, progress)
        folder.write_fitted(setup.book.fitted)
        setup.learner = grpo_learner(recipe, setup.policy, setup.loss)
        grpo, position = setup.grpo(), Position()
        while position.round < recipe.rounds:
            groups, position = collect(grpo, position)
            kept = [
                (sample.prompt, sample.completion)
                for group in groups
                for sample, score in zip(group.samples, group.scores["accuracy"], strict=True)
                if score == 1.0
            ]
            total = sum(len(completion.tokens) for _, completion in kept)
            examples = [
                (prompt.tokens, completion.tokens, np.full(len(completion.tokens), 1 / total))
                for prompt, completion in kept
            ]
            for pack in likelihood_packs(examples, tokens_per_pack=recipe.grpo.tokens_per_pack):
                setup.learner.accumulate(pack)
            setup.learner.step(learning_rate(recipe.grpo, position.round, recipe.rounds))
        save_checkpoint(setup, position)


if __name__ == "__main__":
    main()
