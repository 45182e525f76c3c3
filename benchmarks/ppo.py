"""GRPO beside PPO with a critic of the policy's size: compute and memory to the same held-out accuracy on the clinic.

    python benchmarks/ppo.py grpo --run runs/demo/reasoning --seed 0
    python benchmarks/ppo.py ppo --run runs/demo/reasoning --seed 0            one completion of each prompt
    python benchmarks/ppo.py ppo-groups --run runs/demo/reasoning --seed 0     the prompts and groups of GRPO
    python benchmarks/ppo.py ppo --run … --seed 100 --name try-1 --lam 0.95     another setting of PPO
    python benchmarks/ppo.py table       writes benchmarks/results/ppo*.json and docs/ppo.svg

Every arm begins with the run's checkpoints/000000, has its cases, rewards and optimizer, and samples as many
completions a round. Each command is a process of its own with one thread, keeps runs/ppo/NAME-SEED.json, and does
nothing where that is there; an interrupted one goes on from its last evaluation. Seconds are of this process on the
processor; held-out evaluations are not counted.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from bench.passes import counted
from bench.ppo import Critic, PpoSettings, update
from bench.ppo_table import tables
from bench.process import forget_peak, peak_bytes
from bench.record import ROOT
from grandrounds.algorithm.cursor import take
from grandrounds.algorithm.grpo import Grpo, Position, collect, compare, update_policy
from grandrounds.algorithm.schedule import learning_rate
from grandrounds.cli.train import quiet_libraries
from grandrounds.evaluation.evaluate import evaluate
from grandrounds.policy.load import load_policy
from grandrounds.policy.save import save_policy
from grandrounds.recipe import Recipe
from grandrounds.recipe_file import with_overrides
from grandrounds.sampling.sampler import SamplingSettings
from grandrounds.training.checkpoint import COLD_START, write_state
from grandrounds.training.folder import RunFolder
from grandrounds.training.progress import SilentProgress
from grandrounds.training.saving import restore_rounds
from grandrounds.training.setup import Setup, assemble, grpo_learner
from grandrounds.types import Prompt, ScoredGroup

GROUP = 8
HELD_OUT = 150
EVERY = 2  # rounds between evaluations, each with a checkpoint
CRITIC, KEPT = "critic.safetensors", "measured.json"
# The rates stay, so that a curve may be read at any round.
ROUNDS = ("grpo.schedule=constant", "grpo.warmup_rounds=2", "guard.enabled=false", "grpo.beta=0")


@dataclass(frozen=True)
class Arm:
    """Completions of each prompt, and whether a critic is trained."""

    group: int
    critic: bool


ARMS = {"grpo": Arm(GROUP, False), "ppo": Arm(1, True), "ppo-groups": Arm(GROUP, True)}


def main() -> None:
    """One arm with one seed, or the tables."""
    arguments = parse()
    if arguments.piece == "table":
        tables(arguments.out)
        return
    quiet_libraries()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    name = arguments.name or arguments.piece
    file = arguments.out / f"{name}-{arguments.seed}.json"
    if file.exists():
        print(f"{file} is there")
        return
    result = run(ARMS[arguments.piece], arguments, arguments.out / f"{name}-{arguments.seed}")
    file.write_text(json.dumps({"arm": arguments.piece, **result}, indent=1), encoding="utf-8")


def parse() -> argparse.Namespace:
    usual = PpoSettings()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("piece", choices=(*ARMS, "table"))
    parser.add_argument("--run", type=Path, help="a run whose cold start the arms share")
    parser.add_argument("--out", type=Path, default=ROOT / "runs/ppo")
    parser.add_argument("--seed", type=int, default=0, help="of the rounds: order of cases, and noise")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--completions", type=int, default=64, help="of a round, in every arm")
    parser.add_argument("--name", help="of the result; default: the arm's")
    parser.add_argument("--lam", type=float, default=usual.lam, help="GAE's λ")
    parser.add_argument("--critic-rate", type=float, default=usual.learning_rate)
    parser.add_argument("--critic-steps", type=int, default=usual.steps, help="of the critic in a round")
    parser.add_argument("--critic-warmup", type=int, default=usual.warmup_rounds, help="rounds")
    return parser.parse_args()


def recipe_of(run: Path) -> Recipe:
    """The run's recipe, to go on from its cold start."""
    cold = run / "checkpoints" / COLD_START
    start = [f"policy.model={json.dumps(str(cold))}", "policy.adapter=full", "sft.steps=0"]
    return with_overrides(RunFolder.open(run).recipe(), [*start, *ROUNDS])


@dataclass
class State:
    """An arm under way: a row for each round, the held-out accuracy every few of them, and where it is."""

    setup: Setup
    critic: Critic | None
    position: Position
    rows: list[dict[str, Any]]
    curve: list[dict[str, float]]


def run(arm: Arm, arguments: argparse.Namespace, path: Path) -> dict[str, Any]:
    """The arm's rounds, from the newest checkpoint where it was interrupted."""
    recipe = recipe_of(arguments.run)
    state = begin(arm, recipe, RunFolder.open(path) if path.exists() else RunFolder.create(path, recipe))
    setup, critic = state.setup, state.critic
    # One completion of a prompt is no group to GRPO's recipe; PPO may have it.
    how = recipe.grpo.model_copy(
        update={"group_size": arm.group, "cases_per_round": arguments.completions // arm.group}
    )
    grpo, held_out = replace(setup.grpo(), recipe=how, seed=arguments.seed), prompts_of(setup)
    settings = PpoSettings(
        arguments.lam, arguments.critic_rate, arguments.critic_steps, arguments.critic_warmup
    )
    if not state.curve:
        state.curve.append({"round": 0, "accuracy": accuracy(setup, held_out)})
    while state.position.round < arguments.rounds:
        forget_peak()
        row, state.position = one_round(grpo, critic, settings, state.position)
        done = state.position.round
        state.rows.append({"round": done, **row, "peak_bytes": peak_bytes()})
        if done % EVERY == 0 or done == arguments.rounds:
            state.curve.append({"round": done, "accuracy": accuracy(setup, held_out)})
            print(f"{path.name} round {done}: {state.curve[-1]['accuracy']:.1%}", flush=True)
            save(state)
    return {
        "seed": arguments.seed,
        "completions": arguments.completions,
        "held_out": len(held_out),
        "settings": asdict(settings) if arm.critic else None,
        "rows": state.rows,
        "curve": state.curve,
        "bytes": held_bytes(grpo, critic),
    }


def begin(arm: Arm, recipe: Recipe, folder: RunFolder) -> State:
    """The cold start, or what `save` kept last."""
    checkpoint = folder.checkpoints.latest()
    setup = assemble(recipe, folder, SilentProgress(), checkpoint)
    # Loaded from the cold start in either case: the policy's size, and PPO's usual beginning.
    critic = Critic(load_policy(recipe.policy, seed=recipe.seed), recipe.grpo) if arm.critic else None
    if checkpoint is None:
        setup.learner = grpo_learner(recipe, setup.policy, setup.loss)
        return State(setup, critic, Position(), [], [])
    position = restore_rounds(setup, checkpoint)
    if critic is not None:
        critic.restore(load_file(checkpoint / CRITIC))
    kept = json.loads((checkpoint / KEPT).read_text(encoding="utf-8"))
    return State(setup, critic, position, kept["rows"], kept["curve"])


def save(state: State) -> None:
    """Policy, critic, their optimizers' states and what was measured, in one checkpoint; the one before goes."""
    setup = state.setup

    def write(folder: Path) -> None:
        save_policy(setup.policy, folder)
        write_state(folder, setup.learner.state_dict(), asdict(state.position))
        if state.critic is not None:
            save_file(state.critic.saved(), folder / CRITIC)
        kept = {"rows": state.rows, "curve": state.curve}
        (folder / KEPT).write_text(json.dumps(kept), encoding="utf-8")

    setup.folder.checkpoints.save(f"{state.position.round:06d}", write)
    setup.folder.checkpoints.prune(1)


def one_round(
    grpo: Grpo, critic: Critic | None, settings: PpoSettings, position: Position
) -> tuple[dict[str, Any], Position]:
    """A round's processor seconds, tokens through each network by phase, reward and accuracy."""
    body = grpo.learner.policy.base.get_decoder()
    began = time.process_time()
    with counted(body) as sampling:
        groups, position = collect(grpo, position)
    seconds = {"sampling": time.process_time() - began}
    row = {"reward": _mean(groups, "rewards"), "accuracy": _mean(groups, "accuracy")}
    with counted(body) as policy:
        if critic is None:
            began = time.process_time()
            update_policy(grpo, compare(groups, grpo.recipe, grpo.rewards), position.round)
            seconds["policy"] = time.process_time() - began
            return {
                **row,
                "seconds": seconds,
                "passes": {"sampling": vars(sampling), "policy": vars(policy)},
            }, position
        if position.round == 1:  # the head's bias, so that no step is lost on the reward's size
            torch.nn.init.constant_(critic.head.bias, row["reward"])
        with counted(critic.body) as values:
            rate = learning_rate(grpo.recipe, position.round, grpo.rounds)
            told = update(grpo, critic, settings, groups, position.round, rate)
    row["explained"] = told.pop("explained")
    return {
        **row,
        "seconds": {**seconds, **told},
        "passes": {"sampling": vars(sampling), "policy": vars(policy), "critic": vars(values)},
    }, position


def prompts_of(setup: Setup) -> list[Prompt]:
    """The same held-out cases for every arm and seed."""
    test = setup.book.test
    chosen = [test[i] for i in take(len(test), 0, min(HELD_OUT, len(test)), setup.recipe.seed)]
    return setup.grpo().ask(chosen)


def accuracy(setup: Setup, prompts: list[Prompt]) -> float:
    """Held-out accuracy, greedy."""
    setup.sampler.publish(setup.policy.model, 0)
    result = evaluate(
        setup.sampler,
        prompts,
        grammar=setup.grammar,
        settings=SamplingSettings(setup.recipe.grpo.max_new_tokens),
    )
    return result.accuracy.value


def held_bytes(grpo: Grpo, critic: Critic | None) -> dict[str, int]:
    """Bytes of the weights that are trained and of their optimizer's state; gradients take as much as the weights."""
    policy = list(grpo.learner.parameters.values())
    optimizers = list(grpo.learner.optimizers)
    if critic is not None:
        policy += critic.parameters()
        optimizers += critic.optimizers
    states = [
        value
        for optimizer in optimizers
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, torch.Tensor)
    ]
    return {
        "weights": sum(parameter.nbytes for parameter in policy),
        "optimizer": sum(value.nbytes for value in states),
    }


def _mean(groups: list[ScoredGroup], what: str) -> float:
    if what == "rewards":
        return float(np.mean([group.rewards for group in groups]))
    return float(np.mean([score for group in groups for score in group.scores[what] if score is not None]))


if __name__ == "__main__":
    main()
