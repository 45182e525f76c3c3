"""The learner: packs in, one optimizer step out.

It sees tokens, behaviour log-probs, advantages and weights, and does not know which algorithm made them: GRPO's
variants and supervised fine-tuning differ only in their packs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from grandrounds.algorithm import ranks
from grandrounds.algorithm.correction import Correction
from grandrounds.algorithm.exploration import EntropyBonus, EntropyTarget, most_uncertain
from grandrounds.algorithm.loss import LossInputs, LossSettings, Objective
from grandrounds.algorithm.optimizers import BETAS, Optimizer, build_optimizers
from grandrounds.algorithm.packing import Pack
from grandrounds.errors import RunError
from grandrounds.policy.logprobs import tree_logprobs
from grandrounds.policy.model import Policy

# What rounding may explain of ratios that must be 1. In float32 the largest max(ratio, 1 / ratio) - 1 stays below 1e-4
# in the tests of all architectures.
RATIO_TOLERANCE = 1e-2
# bfloat16 has 8 significant bits, and a rare token's log-prob may be off by more than 1. The mean of |log ratio|
# decides, which a wrong mask, position or weight moves. It grows with the entropy: on SmolLM2-135M sampler and float32
# differ by 0.005 at 0.3 nats a token, and transformers in bfloat16 and in float32 by 0.04 at 2.9.
MEAN_TOLERANCE = 0.15


@dataclass(frozen=True)
class LearnerSettings(LossSettings):
    """How the policy is updated: the settings of the loss and of the optimizer.

    Weight decay acts on matrices only, not on biases and norms. entropy_target: the entropy bonus adapts to it.
    """

    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    optimizer: Optimizer = "adamw"
    betas: tuple[float, float] = BETAS
    entropy_target: EntropyTarget | None = None


# The adaptive entropy bonus in the optimizer's saved state: weight and last entropy.
_BONUS = "entropy_bonus"


class Learner:
    """AdamW, or Muon, on a policy's trainable parameters.

    for pack in ranks.share(packs): learner.accumulate(pack)
    metrics = learner.step(learning_rate)

    Where several processes learn together, each holds all weights and accumulates its share of the packs. Gradients and
    metrics are summed over the processes, so that all clip by the same norm, make the same step and report the same.
    """

    def __init__(self, policy: Policy, settings: LearnerSettings, objective: Objective) -> None:
        self.policy, self.settings, self.objective = policy, settings, objective
        self.parameters = {
            name: parameter for name, parameter in policy.model.named_parameters() if parameter.requires_grad
        }
        self._names = {parameter: name for name, parameter in self.parameters.items()}
        self.optimizers = build_optimizers(
            policy.model,
            self.parameters,
            weight_decay=settings.weight_decay,
            optimizer=settings.optimizer,
            betas=settings.betas,
        )
        self._tally = _Tally()
        self.bonus = EntropyBonus(settings.entropy_bonus, settings.entropy_target)
        if settings.beta:
            policy.freeze_reference()

    def accumulate(self, pack: Pack) -> None:
        """Add a pack's gradient to the step's gradient, and its statistics to the step's metrics."""
        if self.settings.beta:
            pack = self.with_reference(pack)
        bonus = self.bonus.applied
        logprobs, entropy = tree_logprobs(
            self.policy, pack.tree, pack.targets, temperature=pack.temperature, entropy_gradient=bonus > 0
        )
        inputs = LossInputs(
            logprobs,
            pack.behaviour_logprobs,
            pack.advantages,
            pack.weights,
            pack.offsets,
            pack.reference_logprobs,
            pack.correction,
            entropy if bonus else None,
            pack.per_token,
            pack.counted,
        )
        loss, statistics = self.objective(inputs, replace(self.settings, entropy_bonus=bonus))
        loss.backward()
        statistics = {**statistics, "entropy": entropy.detach()}
        if pack.counted is not None:
            statistics |= {"counted": pack.counted, "counted_entropy": entropy.detach() * pack.counted}
        self._tally.add(loss.detach(), statistics, pack.tree.size)

    def with_reference(self, pack: Pack) -> Pack:
        """The pack with the reference policy's log-probs. Several passes over the same packs can then share them."""
        if pack.reference_logprobs is not None:
            return pack
        with self.policy.reference():
            return replace(pack, reference_logprobs=self._forward(pack)[0])

    def corrected(self, pack: Pack, correction: Correction) -> Pack:
        """The pack with the present policy's log-probs instead of the sampler's, and the correction for that."""
        old, _ = self._forward(pack)
        weights = correction.of(old, pack.behaviour_logprobs, pack.offsets)
        return replace(pack, behaviour_logprobs=old, correction=weights)

    def most_uncertain(self, packs: Sequence[Pack], share: float) -> list[Pack]:
        """A step's packs, in which only this share of the tokens counts: those where the policy is least certain."""
        entropies = [self._forward(pack)[1] for pack in packs]
        return most_uncertain(packs, entropies, share, self.policy.device)

    @torch.no_grad()
    def _forward(self, pack: Pack) -> tuple[Tensor, Tensor]:
        """Log-probs and entropies [C] under the present policy."""
        return tree_logprobs(self.policy, pack.tree, pack.targets, temperature=pack.temperature)

    def step(self, learning_rate: float) -> dict[str, float]:
        """Clip the gradient, update the policy, and return the step's metrics (token means over its packs).

        A gradient that is not finite changes no weight; it shows in `grad_norm`. A step without packs changes none
        either. `sampling/ratio_error` is the largest max(ratio, 1 / ratio) - 1, `sampling/logprob_difference` the mean
        of |log ratio|: at the first step of a round they measure how far sampler and learner disagree about the same
        weights.
        """
        metrics = _metrics(self._totals())
        self._tally = _Tally()
        if self.bonus.target is not None:
            metrics["entropy_bonus"] = self.bonus.applied
            if "entropy" in metrics:
                self.bonus = self.bonus.after(metrics.get("entropy_counted", metrics["entropy"]))
        parameters = list(self.parameters.values())
        ranks.sum_gradients(parameters)
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, self.settings.max_grad_norm))
        if torch.isfinite(torch.tensor(norm)):
            for optimizer in self.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate
                optimizer.step()
        for parameter in parameters:
            parameter.grad = None
        return {**metrics, "grad_norm": norm, "learning_rate": learning_rate}

    def require_on_policy(self, *, where: str) -> None:
        """RunError where sampler and learner disagree about the log-probs of tokens accumulated for this step.

        Call it at a step before which the policy has not changed since sampling: every ratio is then 1, up to rounding.
        """
        metrics = _metrics(self._totals())
        if self.policy.precision == "bfloat16":
            error, tolerance = metrics.get("sampling/logprob_difference", 0.0), MEAN_TOLERANCE
            off = "log-probs that must be equal differ in the mean by"
        else:
            error, tolerance = metrics.get("sampling/ratio_error", 0.0), RATIO_TOLERANCE
            off = "a ratio that must be 1 is off by"
        if error > tolerance:
            raise RunError(
                f"sampler and learner disagree about the same weights: {off} {error:.2g} "
                f"(at most {tolerance:g} in {self.policy.precision})",
                where=where,
                hint="No update was made. Compare with policy.precision=float32; if it stays, please report it.",
            )

    def _totals(self) -> list[dict[str, Any]]:
        return ranks.gather(self._tally.totals(), self.policy.device)

    def state_dict(self) -> dict[str, Tensor]:
        """The optimizer state by parameter name, `NAME.exp_avg` and so on, for safetensors."""
        entropy = self.bonus.entropy
        adapted = (
            {}
            if entropy is None
            else {_BONUS: torch.tensor([self.bonus.weight, entropy], dtype=torch.float64)}
        )
        return adapted | {
            f"{name}.{moment}": value
            for name, parameter in self.parameters.items()
            for optimizer in self.optimizers
            for moment, value in optimizer.state.get(parameter, {}).items()
        }

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore what `state_dict` returned. Parameters that were never updated have no entry."""
        tensors = dict(tensors)
        if (bonus := tensors.pop(_BONUS, None)) is not None:
            self.bonus = replace(self.bonus, weight=float(bonus[0]), entropy=float(bonus[1]))
        unknown = {key.rpartition(".")[0] for key in tensors} - self.parameters.keys()
        if unknown:
            raise RunError(
                f"the optimizer's state is of another model: it has `{min(unknown)}`",
                hint="Resume with the recipe and checkpoint that belong together.",
            )
        for optimizer in self.optimizers:
            optimizer.state.clear()
            for parameter in (p for group in optimizer.param_groups for p in group["params"]):
                name = self._names[parameter]
                moments = {
                    key.removeprefix(f"{name}."): tensor.to(parameter.device, copy=True)
                    for key, tensor in tensors.items()
                    if key.rpartition(".")[0] == name
                }
                if moments:
                    optimizer.state[parameter] = moments


class _Tally:
    """Statistics of the packs of one step. They stay tensors until the end, so that nothing waits for a GPU."""

    def __init__(self) -> None:
        self._tokens = 0  # in forward passes, prompts counted once
        self._targets = 0  # completion tokens in forward passes
        self._sums: dict[str, Tensor | float] = defaultdict(float)
        self._ratio_errors: list[Tensor] = []

    def add(self, loss: Tensor, statistics: Mapping[str, Tensor], tokens: int) -> None:
        self._tokens += tokens
        self._targets += len(statistics["entropy"])
        self._sums["loss"] += loss
        for name, values in statistics.items():
            self._sums[name] += values.sum()
        if "ratio" in statistics:
            ratio = statistics["ratio"]
            self._ratio_errors.append(
                torch.maximum(ratio, 1 / ratio).max() - 1
            )  # a ratio of 1/2 is as far off as a ratio of 2

    def totals(self) -> dict[str, Any]:
        """The statistics as numbers. `ratio_error`: the largest max(ratio, 1 / ratio) - 1; 0 without completions."""
        return {
            "tokens": self._tokens,
            "targets": self._targets,
            "sums": {name: float(value) for name, value in self._sums.items()},
            "ratio_error": float(torch.stack(self._ratio_errors).max()) if self._ratio_errors else 0.0,
        }


def _metrics(totals: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The step's metrics, from the totals of all processes."""
    sums: dict[str, float] = defaultdict(float)
    for one in totals:
        for name, value in one["sums"].items():
            sums[name] += value
    targets = sum(one["targets"] for one in totals)
    metrics = {
        "loss": sums.pop("loss", 0.0),
        "num_forward_tokens": float(sum(one["tokens"] for one in totals)),
    }
    means = {name: value / targets for name, value in sums.items()}
    if "counted" in means:
        metrics["entropy_counted"] = sums["counted_entropy"] / max(1.0, sums["counted"])
        del means["counted_entropy"]
    metrics |= {_NAMES.get(name, name): value for name, value in means.items()}
    if "ratio" in means:
        metrics["clip_ratio/region_mean"] = means["clip_low"] + means["clip_high"]
        metrics["sampling/ratio_error"] = max(one["ratio_error"] for one in totals)
    return metrics


_NAMES = {
    "clip_low": "clip_ratio/low_mean",
    "clip_high": "clip_ratio/high_mean",
    "ratio": "ratio_mean",
    "difference": "sampling/logprob_difference",
    "correction": "sampling/correction_mean",
    "counted": "counted_ratio",
}
