"""Every loss and estimator equals a plain reference, written token by token from its formula, in float64."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from grandrounds.algorithm.correction import Correction
from grandrounds.algorithm.loss import LossInputs, LossSettings, Totals
from grandrounds.algorithm.losses import LOSSES, find_loss, loss_settings
from grandrounds.errors import RecipeError
from grandrounds.recipe import GrpoRecipe, Recipe
from grandrounds.recipe_file import recipe_from

LENGTHS = np.array([3, 1, 6, 4, 2])
LONGEST = 7
ADVANTAGES = (0.9, -1.1, -0.4, 0.0, 0.6)


def inputs(spread: float = 0.5) -> tuple[LossInputs, list[dict[str, Any]]]:
    """Five completions as tensors, and the same as plain numbers."""
    noise = np.random.default_rng(3)
    count = int(LENGTHS.sum())
    behaviour = noise.normal(-2, 0.5, count)
    policy, reference, sampled = (behaviour + noise.normal(0, spread, count) for _ in range(3))
    entropy = noise.uniform(0, 3, count)
    made = LossInputs(
        logprobs=torch.tensor(policy, requires_grad=True),
        behaviour=torch.tensor(behaviour),
        advantages=torch.tensor(np.repeat(ADVANTAGES, LENGTHS)),
        weights=torch.zeros(count, dtype=torch.float64),
        offsets=np.concatenate([[0], np.cumsum(LENGTHS)]),
        reference=torch.tensor(reference),
        correction=torch.tensor(sampled),  # of it the correction is computed
        entropy=torch.tensor(entropy, requires_grad=True),
        per_token=1 / count,
    )
    names = ("policy", "behaviour", "reference", "sampled", "entropy")
    parts = [
        np.split(values, np.cumsum(LENGTHS)[:-1])
        for values in (policy, behaviour, reference, sampled, entropy)
    ]
    rows = [
        {**{name: part.tolist() for name, part in zip(names, row, strict=True)}, "advantage": advantage}
        for *row, advantage in zip(*parts, ADVANTAGES, strict=True)
    ]
    return made, rows


def corrections(row: dict[str, Any], kind: str) -> list[float]:
    """π_old / π_sampler of each token, in its bounds; the old policy is the behaviour."""
    logs = [b - s for b, s in zip(row["behaviour"], row["sampled"], strict=True)]
    whole = [math.exp(sum(logs)) if kind.startswith("sequence") else math.exp(log) for log in logs]
    if kind.endswith("truncate"):
        return [min(max(ratio, BOUNDS[0]), BOUNDS[1]) for ratio in whole]
    return [ratio if BOUNDS[0] <= ratio <= BOUNDS[1] else 0.0 for ratio in whole]


def plain(name: str, rows: list[dict[str, Any]], how: LossSettings, correction: str = "none") -> float:
    """The loss as its paper writes it."""
    tokens = sum(LENGTHS)
    total = 0.0
    for row in rows:
        length = len(row["policy"])
        logs = [p - b for p, b in zip(row["policy"], row["behaviour"], strict=True)]
        factors = corrections(row, correction) if correction != "none" else [1.0] * length
        all_logs = sum(logs)
        if name == "vespo":
            all_logs += sum(math.log(max(factor, 1e-8)) for factor in factors)
            factors = [1.0] * length
        far = how.off_policy_limit is not None and -sum(logs) / length > how.off_policy_limit
        for t in range(length):
            log_ratio = sum(logs) / length if how.ratio == "sequence" else logs[t]
            loss = factors[t] * token_loss(name, math.exp(log_ratio), row, t, all_logs, how)
            if far and row["advantage"] < 0:
                loss = 0.0
            x = row["reference"][t] - row["policy"][t]
            kl = {"k1": -x, "k2": x * x / 2, "k3": math.exp(x) - x - 1}[how.kl]
            loss += how.beta * kl * (math.exp(log_ratio) if how.kl_correction else 1)
            weight = {
                "grpo": 1 / (len(rows) * length),
                "sapo": 1 / (len(rows) * length),
                "luspo": 1 / len(rows),
            }
            total += loss * weight.get(name, 1 / (len(rows) * LONGEST) if name == "dr_grpo" else 1 / tokens)
            total -= how.entropy_bonus * row["entropy"][t] / tokens
    return total


def token_loss(
    name: str, ratio: float, row: dict[str, Any], t: int, log_of_all: float, how: LossSettings
) -> float:
    advantage = row["advantage"]
    if name == "cispo":
        return -min(ratio, 1 + how.clip_high) * advantage * row["policy"][t]
    if name == "sapo":
        temperature = how.options["temperature_positive" if advantage > 0 else "temperature_negative"]
        return -4 / temperature / (1 + math.exp(-temperature * (ratio - 1))) * advantage
    if name == "vespo":
        side = "positive" if advantage >= 0 else "negative"
        k, rate = how.options[f"k_{side}"], how.options[f"lambda_{side}"]
        return (
            -(math.exp(log_of_all) ** k)
            * math.exp(rate * (1 - math.exp(log_of_all)))
            * advantage
            * row["policy"][t]
        )
    bounded = min(max(ratio, 1 - how.clip_low), 1 + how.clip_high)
    free = min(ratio, how.delta) if how.delta else ratio
    return -min(free * advantage, bounded * advantage)


SETTINGS = [
    {},
    {"beta": 0.1},
    {"beta": 0.1, "kl": "k1"},
    {"beta": 0.1, "kl": "k2"},
    {"beta": 0.1, "kl": "k3", "kl_correction": True},
    {"off_policy_limit": 0.1},
    {"delta": 1.5},
    {"entropy_bonus": 0.3},
    {"correction": "token_truncate"},
    {"correction": "token_mask", "beta": 0.1},
    {"correction": "sequence_truncate"},
    {"correction": "sequence_mask"},
]
BOUNDS = (0.7, 1.3)


def ours(name: str, how: LossSettings, made: LossInputs, correction: Any = "none") -> torch.Tensor:
    totals = Totals(len(LENGTHS), int(LENGTHS.sum()), int(LENGTHS.sum()), 1, LONGEST)
    weights = LOSSES[name].token_weights(LENGTHS, np.ones(len(LENGTHS), bool), totals)
    assert made.correction is not None
    low, high = BOUNDS
    weighed = replace(
        made,
        weights=torch.tensor(np.repeat(weights, LENGTHS)),
        reference=made.reference if how.beta else None,
        correction=None
        if correction == "none"
        else Correction(correction, high, low).of(made.behaviour, made.correction, made.offsets),
        entropy=made.entropy if how.entropy_bonus else None,
    )
    return LOSSES[name].objective(weighed, how)[0]


GRID = [
    (name, {**changes, "ratio": ratio})
    for name, loss in LOSSES.items()
    for ratio in loss.ratios
    for changes in SETTINGS
    if (loss.clips or "delta" not in changes)
    and not (name == "vespo" and changes.get("correction", "").startswith("sequence"))
]


@pytest.mark.parametrize(("name", "changes"), GRID, ids=str)
def test_a_loss_and_its_gradient_are_those_of_the_formula(name: str, changes: dict[str, Any]) -> None:
    loss = LOSSES[name]
    changes = dict(changes)
    correction = changes.pop("correction", "none")
    how = LossSettings(**changes, options=loss.options)
    made, rows = inputs()
    value = ours(name, how, made, correction)
    np.testing.assert_allclose(float(value.detach()), plain(name, rows, how, correction), rtol=1e-9)
    (gradient,) = torch.autograd.grad(value, made.logprobs, retain_graph=True)
    if how.entropy_bonus:
        (of_entropy,) = torch.autograd.grad(value, made.entropy)
        np.testing.assert_allclose(of_entropy.numpy(), -how.entropy_bonus / sum(LENGTHS))
    assert torch.isfinite(gradient).all()
    if name not in (
        "cispo",
        "vespo",
    ):  # whose weights have no gradient, so that it is not the formula's derivative
        for row, t, place in ((0, 1, 1), (2, 4, 8), (4, 0, 14)):
            up, down = (plain(name, moved(rows, row, t, step), how, correction) for step in (1e-6, -1e-6))
            np.testing.assert_allclose(float(gradient[place]), (up - down) / 2e-6, rtol=1e-4, atol=1e-8)


def moved(rows: list[dict[str, Any]], row: int, t: int, step: float) -> list[dict[str, Any]]:
    changed = [dict(one) for one in rows]
    changed[row]["policy"] = [p + step * (place == t) for place, p in enumerate(rows[row]["policy"])]
    return changed


@pytest.mark.parametrize("name", LOSSES)
def test_on_the_policy_that_sampled_every_loss_descends_the_same_way(name: str) -> None:
    """At ρ = 1 the gradient is -w A, whatever bounds the loss has."""
    made, _ = inputs(spread=0.0)
    loss = LOSSES[name]
    how = LossSettings(ratio=loss.ratios[0], options=loss.options)
    totals = Totals(len(LENGTHS), int(LENGTHS.sum()), int(LENGTHS.sum()), 1, LONGEST)
    weights = np.repeat(loss.token_weights(LENGTHS, np.ones(len(LENGTHS), bool), totals), LENGTHS)
    (gradient,) = torch.autograd.grad(ours(name, how, made), made.logprobs)
    expected = -weights * np.repeat(ADVANTAGES, LENGTHS)
    np.testing.assert_allclose(gradient.numpy(), expected, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"loss": "luspo"}, "luspo takes no ratios of tokens"),
        ({"loss": "cispo", "ratio": "sequence"}, "cispo takes no ratios of whole completions"),
        ({"loss": "vespo", "ratio": "sequence"}, "it takes the ratio of the whole completion by itself"),
        ({"loss": "sapo", "delta": 2.0}, "sapo does not clip"),
        ({"loss": "sapo", "loss_options": {"temperature": 1.0}}, "sapo has no option `temperature`"),
        ({"loss_options": {"k": 1.0}}, "dapo has no option `k`"),
        ({"loss": "vespo", "correction": "sequence_mask"}, "vespo multiplies the corrections"),
    ],
)
def test_what_makes_no_sense_together_is_refused(changes: dict[str, Any], words: str) -> None:
    recipe = GrpoRecipe(**changes)
    with pytest.raises(RecipeError, match=words):
        loss_settings(recipe, find_loss(recipe.loss, Path.cwd()))


def test_an_estimate_of_no_kl_and_an_outer_bound_inside_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"`grpo.kl` is .k1., but does nothing without `grpo.beta`"):
        recipe_from({"grpo": {"kl": "k1"}})
    with pytest.raises(RecipeError, match=r"above 1 \+ grpo.clip_high"):
        recipe_from({"grpo": {"delta": 1.2}})
    assert Recipe().grpo.delta is None


def test_options_of_a_loss_have_its_defaults() -> None:
    recipe = GrpoRecipe(loss="sapo", loss_options={"temperature_negative": 1.2})
    made = loss_settings(recipe, LOSSES["sapo"])
    assert made.options == {"temperature_positive": 1.0, "temperature_negative": 1.2}
