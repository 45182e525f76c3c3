"""Controls at equal compute: from one cold start, what does each way of spending the same rounds bring?

    grpo          the recipe's own rewards
    random        a coin decides each completion's reward
    format        only the form is rewarded
    rejection     the same sampled groups; SFT on the completions that are right (STaR, arXiv:2203.14465)
    sft           continued SFT on the demonstrations, as many completion tokens as grpo sampled

    python benchmarks/controls.py runs/demo/reasoning --rounds 20 --out runs/controls

Every arm starts from the run's checkpoints/000000, keeps its recipe, and is evaluated on the same held-out cases.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path

import numpy as np

from grandrounds.algorithm.grpo import Position, collect
from grandrounds.algorithm.packing import likelihood_packs
from grandrounds.algorithm.schedule import learning_rate
from grandrounds.api import compare
from grandrounds.cli.train import quiet_libraries
from grandrounds.recipe import Recipe
from grandrounds.recipe_file import with_overrides
from grandrounds.training.checkpoint import COLD_START
from grandrounds.training.folder import RunFolder
from grandrounds.training.progress import PlainProgress, SilentProgress
from grandrounds.training.run import train
from grandrounds.training.saving import save_checkpoint
from grandrounds.training.setup import assemble, grpo_learner

ARMS = ("grpo", "random", "format", "rejection", "sft")


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
    arguments = parser.parse_args()
    quiet_libraries()
    base = RunFolder.open(arguments.run)
    cold = base.path / "checkpoints" / COLD_START
    recipe = with_overrides(
        base.recipe(), [f"policy.model={cold}", "policy.adapter=full", "sft.steps=0", "guard.enabled=false"]
    )
    if arguments.rounds:
        recipe = with_overrides(recipe, [f"rounds={arguments.rounds}"])
    policies = {"cold start": cold}
    for arm in arguments.arms:
        folder = arguments.out / arm
        policies[arm] = folder
        if not folder.exists():
            _train(arm, recipe, cold, folder)
    comparison = compare(policies, recipe.cases.source)
    rows = {name: evaluation.to_json(cases=False) for name, evaluation in comparison.evaluations.items()}
    (arguments.out / "controls.json").write_text(json.dumps(comparison.to_json(), indent=1), encoding="utf-8")
    print(
        f"{'arm':<12}{'accuracy':>9}  {'95 % interval':<16}{'format':>8}{'valid | right':>15}{'p vs cold':>11}"
    )
    tests = {pair.after: pair.p for pair in comparison.pairs if pair.before == "cold start"}
    for name, row in rows.items():
        low, high = row["accuracy_interval"]
        valid = row["validity_given_correct"]
        print(
            f"{name:<12}{row['accuracy']:>9.1%}  {low:.1%} – {high:<8.1%}{row['format_rate']:>8.1%}"
            f"{'–' if valid is None else format(valid, '.1%'):>15}{tests.get(name, float('nan')):>11.2g}"
        )


def _train(arm: str, recipe: Recipe, cold: Path, folder: Path) -> None:
    here = Path(__file__)
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
