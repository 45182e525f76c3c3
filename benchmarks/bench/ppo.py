"""PPO with a critic, as a control for GRPO: the sampler, the rewards, the policy's learner and its packs are the same.

    1  sampling, rewards   as in GRPO; one completion of each prompt, or a group of them
    2  values              the critic's forward pass gives V of the state before each completion token
    3  advantages          GAE (arXiv:1506.02438, eq. 16) with γ = 1; the reward comes with the last token; whitened
    4  policy update       the clipped objective (arXiv:1707.06347, eq. 7), by GRPO's own learner
    5  critic update       the clipped value loss: a forward and a backward pass of the critic

The critic is a model of the policy's size, as InstructGPT's and the one that GRPO leaves out (arXiv:2402.03300, section
4.1.1). It begins as the cold start's body with a scalar head, and reads the same packs: shared prompts are computed
once by it too.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from grandrounds.algorithm.grpo import Grpo, steps_of_a_pass
from grandrounds.algorithm.optimizers import build_optimizers
from grandrounds.algorithm.packing import Pack
from grandrounds.policy.logprobs import completion_states
from grandrounds.policy.model import Policy
from grandrounds.recipe import GrpoRecipe
from grandrounds.types import ScoredGroup

EPSILON = 1e-8


@dataclass(frozen=True)
class PpoSettings:
    """What PPO has beside the recipe's settings of the policy.

    lam: GAE's λ. learning_rate: the critic's, constant. steps: optimizer steps of the critic in a round, which together
    see each completion once. warmup_rounds: rounds at first in which only the critic learns. value_clip: how far a
    value may move in a round before its loss has no gradient.
    """

    lam: float = 1.0
    learning_rate: float = 1e-3
    steps: int = 4
    warmup_rounds: int = 0
    value_clip: float = 0.5


def gae(values: np.ndarray, reward: float, lam: float) -> np.ndarray:
    """Advantages [T] of a completion's tokens, from the values V [T] of the states before them and its reward.

    δ_t = r_t + V_{t+1} - V_t,  A_t = δ_t + λ A_{t+1}; r_t is 0 but for the last token, and V behind that is 0.
    """
    deltas = np.append(values[1:], reward) - values
    advantages = np.zeros(len(values))
    following = 0.0
    for place in reversed(range(len(values))):
        following = deltas[place] + lam * following
        advantages[place] = following
    return advantages


def whitened(advantages: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The advantages with mean 0 and standard deviation 1 over all tokens."""
    joined = np.concatenate(advantages)
    return [(part - joined.mean()) / (joined.std() + EPSILON) for part in advantages]


def value_loss(values: Tensor, old: Tensor, returns: Tensor, clip: float) -> Tensor:
    """Σ over tokens of max((V - R)², (clip(V, V_old - clip, V_old + clip) - R)²) / 2; all [C]."""
    bounded = torch.clamp(values, old - clip, old + clip)
    return torch.maximum((values - returns).square(), (bounded - returns).square()).sum() / 2


class Critic(nn.Module):
    """A body of the policy's size and a scalar head that begins as the constant `expected`."""

    def __init__(self, policy: Policy, recipe: GrpoRecipe, expected: float = 0.0) -> None:
        super().__init__()
        self.body: nn.Module = policy.base.get_decoder()
        self.head = nn.Linear(policy.head().weight.shape[1], 1).to(policy.head().weight.dtype)
        nn.init.zeros_(self.head.weight)
        nn.init.constant_(self.head.bias, expected)
        self._policy, self._max_norm = policy, recipe.max_grad_norm
        self.optimizers = build_optimizers(
            self,
            dict(self.named_parameters()),
            weight_decay=recipe.weight_decay,
            optimizer=recipe.optimizer,
            betas=(recipe.adam_beta1, recipe.adam_beta2),
        )

    def forward(self, pack: Pack) -> Tensor:
        """The value [C] of the state before each completion token."""
        values = self.head(completion_states(self._policy, pack.tree))[:, 0]
        return values if pack.tree.copies is None else values.index_select(0, pack.tree.copies)

    def step(self, learning_rate: float) -> None:
        """One optimizer step by the gradient so far, clipped as the policy's is."""
        torch.nn.utils.clip_grad_norm_(self.parameters(), self._max_norm)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def saved(self) -> dict[str, Tensor]:
        """Weights and optimizer state by name, for safetensors."""
        names: dict[Tensor, str] = {parameter: name for name, parameter in self.named_parameters()}
        weights = {f"weight.{name}": parameter.detach() for parameter, name in names.items()}
        return weights | {
            f"{moment}.{names[parameter]}": value
            for optimizer in self.optimizers
            for parameter, state in optimizer.state.items()
            for moment, value in state.items()
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Make this critic what `saved` returned."""
        for optimizer in self.optimizers:
            optimizer.state.clear()
        owner = {p: o for o in self.optimizers for group in o.param_groups for p in group["params"]}
        parameters = dict(self.named_parameters())
        for key, tensor in tensors.items():
            what, _, name = key.partition(".")
            parameter = parameters[name]
            if what == "weight":
                parameter.data.copy_(tensor)
            else:
                owner[parameter].state[parameter][what] = tensor.to(parameter.device, copy=True)


@dataclass(frozen=True)
class Judged:
    """A pack with what the critic says of it; all [C]."""

    pack: Pack  # its advantages are whitened
    values: Tensor
    returns: Tensor


def judge(
    packs: Sequence[Pack], values: Sequence[Tensor], rewards: Sequence[np.ndarray], lam: float
) -> list[Judged]:
    """The packs with GAE's advantages and returns. values: [C] of each pack. rewards: [M] of each pack."""
    found = []
    for pack, value, reward in zip(packs, values, rewards, strict=True):
        parts = np.split(value.double().cpu().numpy(), pack.offsets[1:-1])
        found.append(np.concatenate([gae(v, float(r), lam) for v, r in zip(parts, reward, strict=True)]))

    def tensor(array: np.ndarray, like: Tensor) -> Tensor:
        return torch.from_numpy(array).to(like)

    return [
        Judged(replace(pack, advantages=tensor(white, pack.advantages)), value, tensor(plain, value) + value)
        for pack, value, plain, white in zip(packs, values, found, whitened(found), strict=True)
    ]


def numbered(groups: Sequence[ScoredGroup]) -> tuple[list[ScoredGroup], np.ndarray]:
    """Groups whose advantages are the completions' numbers from 1, by which packs tell what they hold; and rewards by
    number, the first of them of nothing."""
    rewards = np.concatenate([[np.nan], *(group.rewards for group in groups)])
    first = np.cumsum([1, *(len(group.samples) for group in groups)])
    made = [
        group.with_advantages(np.arange(start, end, dtype=np.float64))
        for group, start, end in zip(groups, first[:-1], first[1:], strict=True)
    ]
    return made, rewards


def rewards_in(pack: Pack, rewards: np.ndarray) -> np.ndarray:
    """The rewards [M] of a pack of numbered groups."""
    return rewards[pack.advantages.cpu().numpy()[pack.offsets[:-1]].astype(np.int64)]


def update(
    grpo: Grpo,
    critic: Critic,
    settings: PpoSettings,
    groups: Sequence[ScoredGroup],
    number: int,
    learning_rate: float,
) -> dict[str, float]:
    """Steps 2 to 5 of round `number`; returns processor seconds by step, and how much of the returns' variance the
    critic explained."""
    clock, seconds = time.process_time, {}
    numbers, rewards = numbered(groups)
    began = clock()
    steps = steps_of_a_pass(grpo, numbers)
    packs = [pack for step in steps for pack in step]
    with torch.no_grad():
        values = [critic(pack) for pack in packs]
    judged = judge(packs, values, [rewards_in(pack, rewards) for pack in packs], settings.lam)
    seconds["values"] = clock() - began
    began = clock()
    if number > settings.warmup_rounds:
        waiting = iter(judged)
        for done, step in enumerate(steps):
            for _ in step:
                grpo.learner.accumulate(next(waiting).pack)
            if not done:
                grpo.learner.require_on_policy(where=f"round {number}")
            grpo.learner.step(learning_rate)
    seconds["policy"] = clock() - began
    began = clock()
    _learn_values(critic, settings, judged)
    seconds["critic"] = clock() - began
    return {**seconds, "explained": explained(judged)}


def _learn_values(critic: Critic, settings: PpoSettings, judged: Sequence[Judged]) -> None:
    """Each pack once, in as many optimizer steps as asked for; every step gets packs of all lengths."""
    for first in range(min(settings.steps, len(judged))):
        part = judged[first :: settings.steps]
        tokens = sum(len(one.values) for one in part)
        for one in part:
            loss = value_loss(critic(one.pack), one.values, one.returns, settings.value_clip)
            (loss / tokens).backward()
        critic.step(settings.learning_rate)


def explained(judged: Sequence[Judged]) -> float:
    """1 - Var(R - V) / Var(R) over tokens: 1 for a perfect critic, 0 for a constant one."""
    returns = torch.cat([one.returns for one in judged])
    errors = returns - torch.cat([one.values for one in judged])
    return float(1 - errors.var() / returns.var().clamp(min=EPSILON))
