"""What it saves to compute once what completions of a group share, on the policies of a run: sampling and update.

    python benchmarks/agreeing.py runs/demo/reasoning --cases 32

For the run's cold start and its last checkpoint: tokens decoded and learned from, and processor seconds, each with and
without merging, the better of two. Writes benchmarks/results/agreeing.json.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from bench.record import RESULTS, record
from grandrounds.algorithm.grpo import clipped
from grandrounds.algorithm.learner import Learner, LearnerSettings
from grandrounds.algorithm.packing import packs
from grandrounds.cases.load import load_cases
from grandrounds.cli.train import quiet_libraries
from grandrounds.policy.load import load_policy
from grandrounds.policy.model import Policy
from grandrounds.recipe import Recipe
from grandrounds.sampling import batch
from grandrounds.sampling.native import NativeSampler
from grandrounds.sampling.prompts import make_prompts
from grandrounds.sampling.sampler import SamplingSettings
from grandrounds.training.checkpoint import COLD_START
from grandrounds.training.folder import RunFolder
from grandrounds.training.setup import saved_policy
from grandrounds.types import Case, Group

GROUP = 8
COLUMNS = ("policy", "tokens in all", "decoded", "learned from", "sampling, s", "update, s")


def main() -> None:
    """Measure both policies, and write a row for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--cases", type=int, default=32)
    arguments = parser.parse_args()
    quiet_libraries()
    torch.set_num_threads(1)
    folder = RunFolder.open(arguments.run)
    recipe = folder.recipe()
    cases = load_cases(recipe.cases, seed=recipe.seed).train[-arguments.cases :]
    newest = folder.checkpoints.latest(lambda damage: None)
    assert newest is not None
    places = {"cold start": folder.checkpoints.folder / COLD_START, "after GRPO": newest}
    rows = [row(name, recipe, place, cases) for name, place in places.items()]
    record(
        RESULTS / "agreeing.json",
        COLUMNS,
        rows,
        f"{arguments.cases} × {GROUP} completions of the recipe `{recipe.name}`, one thread, the better of two; "
        "without merging -> with it.",
    )


def row(name: str, recipe: Recipe, place: Path, cases: Sequence[Case]) -> list[str]:
    """One policy's figures."""
    policy = load_policy(saved_policy(recipe, place), seed=recipe.seed)
    groups, decoded, sampling = sampled(policy, recipe, cases)
    learned, update = updated(policy, recipe, groups)
    tokens = sum(len(one.tokens) for group in groups for one in group.completions)
    return [
        name,
        f"{tokens:,}",
        *(f"{without:,} -> {with_it:,}" for without, with_it in (decoded, learned)),
        *(
            f"{without:.1f} -> {with_it:.1f} ({without / with_it:.1f} times)"
            for without, with_it in (sampling, update)
        ),
    ]


def sampled(
    policy: Policy, recipe: Recipe, cases: Sequence[Case]
) -> tuple[list[Group], tuple[int, int], tuple[float, float]]:
    """The groups; rows decoded and seconds, without and with merging."""
    prompts = make_prompts(policy, cases, recipe.prompt, recipe.grpo.max_new_tokens)
    settings = SamplingSettings(recipe.grpo.max_new_tokens, stop=tuple(recipe.grpo.stop))
    sampler, rows, seconds = NativeSampler(policy), [], []
    groups: list[Group] = []
    devices: list[tuple[str, ...]] = [(), ("cpu",)]
    for merged_on in devices:
        batch.MERGE_ON = merged_on
        with embedded(policy) as counts:
            groups = list(sampler.sample(prompts, GROUP, settings, (0, 1)))
        rows.append(sum(counts))
        seconds.append(best(lambda: list(sampler.sample(prompts, GROUP, settings, (0, 1)))))
    return groups, (rows[0], rows[1]), (seconds[0], seconds[1])


@contextmanager
def embedded(policy: Policy) -> Iterator[list[int]]:
    """How many tokens each forward pass within the block embeds."""
    counts: list[int] = []
    layer = policy.base.get_input_embeddings()
    hook = layer.register_forward_hook(lambda module, inputs, output: counts.append(inputs[0].numel()))
    try:
        yield counts
    finally:
        hook.remove()


def updated(
    policy: Policy, recipe: Recipe, groups: list[Group]
) -> tuple[tuple[int, int], tuple[float, float]]:
    """Tokens in forward passes and seconds of one update, without and with merging, every completion counting."""
    noise = np.random.default_rng(0)
    advantages = noise.normal(size=(len(groups), GROUP))
    weights = np.full((len(groups), GROUP), 1e-6)
    learner = Learner(policy, LearnerSettings(), clipped)

    def update(merge: bool) -> int:
        made = packs(groups, advantages, weights, tokens_per_pack=recipe.grpo.tokens_per_pack, merge=merge)
        for pack in made:
            learner.accumulate(pack)
        learner.step(0.0)
        return sum(pack.tree.size for pack in made)

    tokens = (update(merge=False), update(merge=True))
    return tokens, (best(lambda: update(merge=False)), best(lambda: update(merge=True)))


def best(work: Callable[[], object]) -> float:
    """Processor seconds, the better of two."""
    seconds = []
    for _ in range(2):
        started = time.process_time()
        work()
        seconds.append(time.process_time() - started)
    return min(seconds)


if __name__ == "__main__":
    main()
