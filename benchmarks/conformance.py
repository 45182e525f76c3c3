"""Every loss beside TRL's own, on random numbers in float64: value and gradient, over the whole grid of settings.

    PYTHONPATH=src .venv-peers/bin/python benchmarks/conformance.py

TRL's `GRPOTrainer._compute_loss` is called as it is, with the log-probs given instead of computed. Writes
benchmarks/results/conformance.json: a row for each loss, with the cells compared and the largest relative difference.
"""

from __future__ import annotations

import itertools
import sys
from collections import defaultdict
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import trl
from torch import Tensor
from trl import GRPOTrainer

from bench.record import RESULTS, record
from grandrounds.algorithm.correction import Correction
from grandrounds.algorithm.loss import LossInputs, LossSettings, Totals
from grandrounds.algorithm.losses import LOSSES, loss_settings
from grandrounds.errors import RecipeError
from grandrounds.recipe import GrpoRecipe, Recipe

TOLERANCE = 1e-6
LONGEST = 9
LOW, HIGH = 0.7, 1.4  # bounds of the correction
GRID: dict[str, tuple[Any, ...]] = {
    "loss": tuple(LOSSES),
    "ratio": ("token", "sequence"),
    "clip_high": (0.2, 0.28),
    "delta": (None, 1.6),
    "beta": (0.0, 0.04),
    "kl_correction": (False, True),
    "off_policy_limit": (None, 0.1),
    "entropy_bonus": (0.0, 0.3),
    "top_entropy": (1.0, 0.4),
    "correction": ("none", "token_truncate", "token_mask", "sequence_truncate", "sequence_mask"),
}
SEEDS = range(3)
# What TRL refuses or warns of, and ours refuses, is no cell; what ours refuses alone is counted.
# With these losses TRL divides the bonus of the most uncertain tokens by the number of all tokens. Ours is their mean.
OTHER_MEAN = ("dapo", "cispo", "vespo")
COLUMNS = ("loss", "cells compared", "largest relative difference: loss", "gradient", "refused by ours")


@dataclass(frozen=True)
class Batch:
    """M completions of at most T tokens: log-probs and entropies [M, T], advantages [M], tokens that exist [M, T]."""

    policy: np.ndarray
    behaviour: np.ndarray
    reference: np.ndarray
    sampled: np.ndarray
    entropy: np.ndarray
    advantages: np.ndarray
    mask: np.ndarray

    def correction(self, recipe: GrpoRecipe) -> Tensor | None:
        """Of the sampler, [C]. Its computation is not TRL's loss; `tests/test_grpo_losses.py` has its reference."""
        if recipe.correction == "none":
            return None
        offsets = np.concatenate([[0], np.cumsum(self.mask.sum(1))])
        old, sampled = (torch.tensor(values[self.mask]) for values in (self.behaviour, self.sampled))
        return Correction(recipe.correction, HIGH, LOW).of(old, sampled, offsets)


def main() -> int:
    """Compare every cell; 1 where one differs."""
    torch.set_default_dtype(torch.float64)
    cells: dict[str, list[tuple[float, float]]] = defaultdict(list)
    refused: dict[str, int] = defaultdict(int)
    for values in itertools.product(*GRID.values()):
        how = dict(zip(GRID, values, strict=True))
        try:
            recipe = Recipe(grpo=GrpoRecipe.model_validate(how)).grpo
            settings = loss_settings(recipe, LOSSES[recipe.loss])
        except (RecipeError, ValueError):
            refused[how["loss"]] += 1
            continue
        if recipe.top_entropy < 1 and recipe.entropy_bonus and recipe.loss in OTHER_MEAN:
            continue
        cells[recipe.loss] += [compared(recipe, settings, seed) for seed in SEEDS]
    rows = [
        [
            name,
            f"{len(found)}",
            *(f"{max(one[part] for one in found):.1e}" for part in (0, 1)),
            f"{refused[name]}",
        ]
        for name, found in cells.items()
    ]
    for row in rows:
        print("  ".join(row))
    worst = max(max(one) for found in cells.values() for one in found)
    record(
        RESULTS / "conformance.json",
        COLUMNS,
        rows,
        f"{sum(map(len, cells.values())):,} cells, float64, completions of at most {LONGEST} tokens; "
        f"TRL {trl.__version__}. "
        "Not in TRL: k1 and k2. Otherwise than there: `cispo` bounds the ratio by 1 + clip_high, TRL by epsilon_high; "
        "with `dapo`, `cispo` and `vespo` the entropy bonus of the most uncertain tokens is their mean, in TRL their "
        "sum over the number of all tokens.",
    )
    return int(worst > TOLERANCE)


def compared(recipe: GrpoRecipe, settings: LossSettings, seed: int) -> tuple[float, float]:
    """The largest relative differences of loss and gradient on one random batch."""
    noise = np.random.default_rng(seed)
    lengths = noise.integers(1, LONGEST + 1, 5)
    mask = np.arange(LONGEST) < lengths[:, None]
    behaviour = noise.normal(-2, 0.5, mask.shape)
    policy, reference, sampled = (behaviour + noise.normal(0, 0.4, mask.shape) for _ in range(3))
    batch = Batch(
        policy, behaviour, reference, sampled, noise.uniform(0, 3, mask.shape), noise.normal(0, 1, 5), mask
    )
    theirs, their_gradient = of_trl(recipe, batch)
    ours, our_gradient = of_ours(recipe, settings, batch)
    scale = float(their_gradient.abs().max()) or 1.0
    return abs(ours - theirs) / max(abs(theirs), 1e-3), float(
        (our_gradient - their_gradient).abs().max()
    ) / scale


def of_ours(recipe: GrpoRecipe, settings: LossSettings, batch: Batch) -> tuple[float, Tensor]:
    """Our loss, and its gradient with respect to log-probs and entropies, [2, M, T]."""
    mask, loss = batch.mask, LOSSES[recipe.loss]
    lengths = mask.sum(1)
    totals = Totals(len(lengths), int(lengths.sum()), int(lengths.sum()), 1, LONGEST)
    weights = loss.token_weights(lengths, np.ones(len(lengths), bool), totals)
    both = torch.tensor(np.stack([batch.policy, batch.entropy]), requires_grad=True)
    logprobs, entropy = both[:, torch.tensor(mask)]
    made = LossInputs(
        logprobs,
        torch.tensor(batch.behaviour[mask]),
        torch.tensor(np.repeat(batch.advantages, lengths)),
        torch.tensor(np.repeat(weights, lengths)),
        np.concatenate([[0], np.cumsum(lengths)]),
        torch.tensor(batch.reference[mask]) if recipe.beta else None,
        batch.correction(recipe),
        entropy if recipe.entropy_bonus else None,
        1 / lengths.sum(),
    )
    if recipe.top_entropy < 1:
        values = batch.entropy[mask]
        counted = values >= np.quantile(values, 1 - recipe.top_entropy)
        made = replace(made, counted=torch.tensor(counted).double(), per_token=1 / counted.sum())
    value, _ = loss.objective(made, settings)
    value.backward()
    assert both.grad is not None
    return float(value.detach()), both.grad


def of_trl(recipe: GrpoRecipe, batch: Batch) -> tuple[float, Tensor]:
    """TRL's loss of one optimizer step of one process, and its gradient [2, M, T]."""
    mask = batch.mask
    both = torch.tensor(np.stack([batch.policy, batch.entropy]), requires_grad=True)
    ones = torch.ones(mask.shape, dtype=torch.int64)
    corrected = recipe.correction != "none"
    trainer: Any = SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *unused, **more: (both[0], both[1], None),
        get_off_policy_mask=GRPOTrainer.get_off_policy_mask,
        get_gamma_weights=GRPOTrainer.get_gamma_weights,
        model=SimpleNamespace(training=True),
        accelerator=SimpleNamespace(
            num_processes=1,
            sync_gradients=False,
            gather=lambda value: value,
            pad_across_processes=lambda value, **unused: value,
            gather_for_metrics=lambda value: value,
            reduce=lambda value, reduction: value,
        ),
        aux_loss_enabled=False,
        top_entropy_quantile=recipe.top_entropy,
        get_high_entropy_mask=lambda *given: GRPOTrainer.get_high_entropy_mask(trainer, *given),
        off_policy_mask_threshold=recipe.off_policy_limit,
        importance_sampling_level=recipe.ratio,
        beta=recipe.beta,
        loss_type=recipe.loss,
        epsilon_low=recipe.clip_low,
        epsilon_high=1 + recipe.clip_high if recipe.loss == "cispo" else recipe.clip_high,
        use_vllm=corrected,
        vllm_importance_sampling_correction=corrected,
        current_gradient_accumulation_steps=1,
        max_completion_length=LONGEST,
        _entropy_bonus_enabled=recipe.entropy_bonus != 0,
        entropy_coef=recipe.entropy_bonus,
        use_adaptive_entropy=False,
        _metrics=defaultdict(lambda: defaultdict(list)),
        args=SimpleNamespace(
            delta=recipe.delta,
            use_bias_correction_kl=recipe.kl_correction,
            steps_per_generation=1,
            **of_their_options(),
        ),
    )
    given: dict[str, Any] = {
        "prompt_ids": ones[:, :1],
        "prompt_mask": ones[:, :1],
        "completion_ids": ones,
        "completion_mask": torch.tensor(mask).long(),
        "advantages": torch.tensor(batch.advantages),
        "old_per_token_logps": torch.tensor(batch.behaviour),
        "ref_per_token_logps": torch.tensor(batch.reference),
        "num_items_in_batch": torch.tensor(mask.sum()),
    }
    if corrected:
        factors = torch.ones(mask.shape)
        correction = batch.correction(recipe)
        assert correction is not None
        factors[torch.tensor(mask)] = correction
        sequence = recipe.correction.startswith("sequence")
        given["importance_sampling_ratio"] = factors[:, :1] if sequence else factors
    value = GRPOTrainer._compute_loss(trainer, None, given)
    value.backward()
    assert both.grad is not None
    return float(value.detach()), both.grad


def of_their_options() -> dict[str, float]:
    """TRL's names for our losses' options, with ours' defaults, which are TRL's."""
    sapo, vespo = LOSSES["sapo"].options, LOSSES["vespo"].options
    return {
        "sapo_temperature_pos": sapo["temperature_positive"],
        "sapo_temperature_neg": sapo["temperature_negative"],
        "vespo_k_pos": vespo["k_positive"],
        "vespo_lambda_pos": vespo["lambda_positive"],
        "vespo_k_neg": vespo["k_negative"],
        "vespo_lambda_neg": vespo["lambda_negative"],
    }


if __name__ == "__main__":
    sys.exit(main())
