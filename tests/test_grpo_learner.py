"""What the learner promises: cuts change nothing, skipping changes nothing, ratios begin at 1."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from cispo import CISPO
from grpo_support import (
    CONFIGS,
    agreeing_groups,
    everything_in_double,
    gradients,
    plain_logprobs,
    ragged_groups,
    tiny_model,
    tiny_policy,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from sampling_support import sample

from grandrounds.algorithm import moments
from grandrounds.algorithm.grpo import LOSSES, clipped
from grandrounds.algorithm.learner import Learner, LearnerSettings
from grandrounds.algorithm.loss import Totals, likelihood
from grandrounds.algorithm.optimizers import Optimizer
from grandrounds.algorithm.packing import likelihood_packs, packs
from grandrounds.errors import RunError
from grandrounds.sampling.native import NativeSampler
from grandrounds.sampling.sampler import SamplingSettings
from grandrounds.training.checkpoint import read_state, write_state
from grandrounds.types import Completion, Group

SETTINGS = LearnerSettings(clip_low=0.2, clip_high=0.28)


def _advantages(groups: list[Group], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(len(groups), len(groups[0].completions)))


def _weights(groups: list[Group]) -> np.ndarray:
    lengths = np.array([len(c.tokens) for g in groups for c in g.completions])
    totals = Totals(len(lengths), int(lengths.sum()), int(lengths.sum()), 1, 16)
    return LOSSES["grpo"].token_weights(lengths, np.ones(len(lengths), bool), totals).reshape(len(groups), -1)


def _sampled_by(model: torch.nn.Module, groups: list[Group], temperature: float = 1.0) -> list[Group]:
    """The groups with the model's own log-probs as behaviour."""
    made = []
    for group in groups:
        completions = []
        for one in group.completions:
            with torch.no_grad():
                logprobs, _ = plain_logprobs(model, group.prompt.tokens, one.tokens, temperature)
            completions.append(Completion(one.tokens, logprobs.float().numpy(), "", one.finish))
        made.append(Group(group.prompt, tuple(completions)))
    return made


def _gradient(groups: list[Group], advantages: np.ndarray, budget: int, **how: bool) -> tuple[float, dict]:
    model = tiny_model("qwen2")
    learner = Learner(tiny_policy(model), SETTINGS, clipped)
    for pack in packs(groups, advantages, _weights(groups), tokens_per_pack=budget, **how):
        learner.accumulate(pack)
    found = gradients(model)
    return learner.step(0.0)["loss"], found


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 50), budget=st.integers(1, 150))
def test_any_cut_into_packs_gives_the_same_loss_and_gradient(seed: int, budget: int) -> None:
    groups = ragged_groups(seed, groups=4)
    advantages = _advantages(groups, seed)
    with everything_in_double():
        loss, whole = _gradient(groups, advantages, 10_000)
        cut_loss, cut = _gradient(groups, advantages, budget)
    assert cut_loss == pytest.approx(loss, rel=1e-9)
    for name in whole:
        torch.testing.assert_close(cut[name], whole[name], rtol=1e-9, atol=1e-12)


@given(seed=st.integers(0, 200), budget=st.integers(1, 80))
def test_packs_hold_every_branch_once_and_keep_the_budget(seed: int, budget: int) -> None:
    groups = ragged_groups(seed, groups=5, size=4)
    made = packs(groups, _advantages(groups), _weights(groups), tokens_per_pack=budget)
    expected = sorted(c.tokens.tolist() for g in groups for c in g.completions)
    found = []
    for pack in made:
        assert pack.tree.size <= budget or len(pack.tree.parent) == 1
        found += [pack.targets[a:b].tolist() for a, b in pairwise(pack.offsets)]
    assert sorted(found) == expected


def test_packs_are_as_few_as_the_budget_allows_and_even() -> None:
    groups = [one for seed in range(8) for one in ragged_groups(seed, groups=1, size=4)]
    sizes = [len(g.prompt.tokens) + sum(len(c.tokens) for c in g.completions) for g in groups]
    budget = sum(sizes) // 2 + max(sizes)
    made = packs(groups, _advantages(groups), _weights(groups), tokens_per_pack=budget)
    assert len(made) == 2
    assert abs(made[0].tree.size - made[1].tree.size) <= max(sizes)


def test_a_prompt_is_forwarded_once_per_group() -> None:
    groups = ragged_groups(4)
    (pack,) = packs(groups, _advantages(groups), _weights(groups), tokens_per_pack=10_000)
    prompts = sum(len(group.prompt.tokens) for group in groups)
    assert pack.tree.size == prompts + len(pack.targets)


@pytest.mark.parametrize("budget", [10_000, 30])
def test_merging_completions_changes_no_loss_and_no_gradient(budget: int) -> None:
    groups = agreeing_groups(2, groups=4)
    advantages = _advantages(groups)
    with everything_in_double():
        loss, merged = _gradient(groups, advantages, budget, merge=True)
        apart_loss, apart = _gradient(groups, advantages, budget, merge=False)
    assert loss == pytest.approx(apart_loss, rel=1e-10)
    for name in merged:
        torch.testing.assert_close(merged[name], apart[name], rtol=1e-9, atol=1e-13)


def test_groups_without_signal_are_not_forwarded_and_change_no_gradient() -> None:
    groups = ragged_groups(5, groups=4)
    advantages = _advantages(groups)
    advantages[1] = advantages[3] = 0.0
    with everything_in_double():
        _, skipped = _gradient(groups, advantages, 10_000)
        _, forwarded = _gradient(groups, advantages, 10_000, skip_zero_advantage=False)
    for name in skipped:
        torch.testing.assert_close(skipped[name], forwarded[name], rtol=1e-10, atol=1e-14)
    (pack,) = packs(groups, advantages, _weights(groups), tokens_per_pack=10_000)
    assert len(pack.tree.prompt_lengths) == 2


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_every_ratio_is_one_at_the_first_update(temperature: float) -> None:
    plain = tiny_model("llama", attention="eager", dtype=torch.float32)
    groups = _sampled_by(plain, ragged_groups(6), temperature)
    learner = Learner(tiny_policy(tiny_model("llama", dtype=torch.float32)), SETTINGS, clipped)
    for pack in packs(
        groups, _advantages(groups), _weights(groups), tokens_per_pack=60, temperature=temperature
    ):
        learner.accumulate(pack)
    metrics = learner.step(1e-2)
    assert metrics["sampling/ratio_error"] < 1e-4
    assert metrics["clip_ratio/region_mean"] == 0


@pytest.mark.parametrize(
    ("dtype", "error"),
    [(torch.float32, 0.05), (torch.float32, -0.05), (torch.bfloat16, 0.5), (torch.bfloat16, -0.5)],
    ids=str,
)
def test_a_sampler_that_disagrees_with_the_learner_is_refused(dtype: torch.dtype, error: float) -> None:
    model = tiny_model("llama", dtype=dtype)
    groups = _sampled_by(tiny_model("llama", attention="eager", dtype=torch.float32), ragged_groups(6), 1.0)
    learner = Learner(tiny_policy(model), SETTINGS, clipped)

    def accumulate(groups: list[Group]) -> None:
        for pack in packs(groups, _advantages(groups), _weights(groups), tokens_per_pack=60):
            learner.accumulate(pack)

    learner.require_on_policy(where="round 1")  # nothing sampled, nothing to disagree about
    accumulate(groups)
    learner.require_on_policy(where="round 1")
    wrong = [
        replace(group, completions=tuple(replace(c, logprobs=c.logprobs - error) for c in group.completions))
        for group in groups
    ]
    accumulate(wrong)
    with pytest.raises(RunError, match=r"round 1: sampler and learner disagree.*No update was made"):
        learner.require_on_policy(where="round 1")


def test_a_rare_token_that_bfloat16_rounds_far_off_stops_nothing() -> None:
    model = tiny_model("llama", dtype=torch.bfloat16)
    groups = _sampled_by(tiny_model("llama", attention="eager", dtype=torch.float32), ragged_groups(20), 1.0)
    first = groups[0].completions[0]
    first.logprobs[0] -= 1.5
    learner = Learner(tiny_policy(model), SETTINGS, clipped)
    for pack in packs(groups, _advantages(groups), _weights(groups), tokens_per_pack=60):
        learner.accumulate(pack)
    learner.require_on_policy(where="round 1")
    metrics = learner.step(1e-3)
    assert metrics["sampling/ratio_error"] > 2.5
    assert 0 < metrics["sampling/logprob_difference"] < 0.05


class _Silent:
    """A tokenizer that decodes everything to nothing."""

    def batch_decode(self, rows: list[np.ndarray], **how: bool) -> list[str]:
        return ["" for _ in rows]


@pytest.mark.parametrize("architecture", CONFIGS)
def test_every_ratio_is_one_where_the_native_sampler_sampled(architecture: str) -> None:
    policy = tiny_policy(tiny_model(architecture, dtype=torch.float32))
    policy.tokenizer = _Silent()
    prompts = [group.prompt for group in ragged_groups(13)]
    how = SamplingSettings(max_new_tokens=12, temperature=0.8)
    groups = sample(NativeSampler(policy), prompts, 4, how, ("test", 0))
    learner = Learner(policy, SETTINGS, clipped)
    for pack in packs(
        groups, _advantages(groups), _weights(groups), tokens_per_pack=100, temperature=how.temperature
    ):
        learner.accumulate(pack)
    assert learner.step(1e-3)["sampling/ratio_error"] < 1e-4


def test_a_loss_of_ones_own_needs_one_file() -> None:
    """CISPO's gradient through packs equals that of its formula on each completion by itself, in float64."""
    with everything_in_double():
        plain = tiny_model("llama", attention="eager", dtype=torch.float64)
        groups = ragged_groups(21)
        advantages, weights = _advantages(groups), _weights(groups)
        for i, group in enumerate(groups):
            for j, one in enumerate(group.completions):
                logprobs, _ = plain_logprobs(plain, group.prompt.tokens, one.tokens)
                ratio = (logprobs.detach() - torch.from_numpy(one.logprobs)).exp().clamp(max=1.28)
                (-weights[i, j] * advantages[i, j] * ratio * logprobs).sum().backward()
        learner = Learner(tiny_policy(tiny_model("llama", dtype=torch.float64)), SETTINGS, CISPO.objective)
        for pack in packs(groups, advantages, weights, tokens_per_pack=60):
            learner.accumulate(pack)
    expected = gradients(plain)
    for name, gradient in gradients(learner.policy.model).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-6, atol=1e-9)


def test_each_token_may_have_its_own_advantage() -> None:
    """The first step's gradient, where every ratio is 1, is that of -w A log π token by token."""
    with everything_in_double():
        plain = tiny_model("llama", attention="eager", dtype=torch.float64)
        groups = ragged_groups(23)
        weights, noise = _weights(groups), np.random.default_rng(2)
        advantages = [[noise.normal(size=len(one.tokens)) for one in group.completions] for group in groups]
        behaved = []
        for i, group in enumerate(groups):
            completions = []
            for j, one in enumerate(group.completions):
                logprobs, _ = plain_logprobs(plain, group.prompt.tokens, one.tokens)
                (-weights[i, j] * torch.from_numpy(advantages[i][j]) * logprobs).sum().backward()
                completions.append(replace(one, logprobs=logprobs.detach().numpy()))
            behaved.append(Group(group.prompt, tuple(completions)))
        learner = Learner(tiny_policy(tiny_model("llama", dtype=torch.float64)), SETTINGS, clipped)
        for pack in packs(behaved, advantages, weights, tokens_per_pack=60):
            learner.accumulate(pack)
    expected = gradients(plain)
    for name, gradient in gradients(learner.policy.model).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-5, atol=1e-7)


def test_offsets_part_a_packs_tokens_into_its_completions() -> None:
    groups = ragged_groups(22)
    made = packs(groups, _advantages(groups), _weights(groups), tokens_per_pack=60)
    parted = [
        tuple(pack.targets[first:last].tolist()) for pack in made for first, last in pairwise(pack.offsets)
    ]
    assert sorted(parted) == sorted(tuple(c.tokens.tolist()) for group in groups for c in group.completions)


def test_a_step_raises_what_had_advantage() -> None:
    plain = tiny_model("llama", attention="eager", dtype=torch.float32)
    groups = _sampled_by(plain, ragged_groups(7))
    advantages = np.tile([1.0, -1.0, 0.0], (3, 1))
    policy = tiny_policy(tiny_model("llama", dtype=torch.float32))
    learner = Learner(policy, SETTINGS, clipped)
    made = packs(groups, advantages, _weights(groups), tokens_per_pack=10_000)
    losses = []
    for _ in range(3):
        for pack in made:
            learner.accumulate(pack)
        losses.append(learner.step(1e-2)["loss"])
    assert losses[2] < losses[1] < losses[0]


def test_kl_to_the_reference_is_zero_where_it_is_the_policy_and_grows_with_distance() -> None:
    learner = Learner(
        tiny_policy(tiny_model("llama", dtype=torch.float32)), LearnerSettings(beta=0.1), clipped
    )
    groups = _sampled_by(tiny_model("llama", attention="eager", dtype=torch.float32), ragged_groups(8))
    made = packs(groups, _advantages(groups), _weights(groups), tokens_per_pack=10_000)
    kls = []
    for _ in range(2):
        for pack in made:
            learner.accumulate(pack)
        kls.append(learner.step(3e-2)["kl"])
    assert kls[0] == pytest.approx(0, abs=1e-7)
    assert kls[1] > 1e-3


def test_bfloat16_gradients_point_where_float32_ones_do() -> None:
    groups = ragged_groups(14)
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        model = tiny_model("qwen2", dtype=dtype)
        learner = Learner(tiny_policy(model), LearnerSettings(clip_low=10, clip_high=10), clipped)
        for pack in packs(groups, _advantages(groups), _weights(groups), tokens_per_pack=60):
            learner.accumulate(pack)
        found.append(torch.cat([g.float().flatten() for g in gradients(model).values()]))
    assert torch.cosine_similarity(*found, dim=0) > 0.99


def test_likelihood_packs_give_the_weighted_negative_log_likelihood() -> None:
    model = tiny_model("qwen3")
    examples = [
        (g.prompt.tokens, g.completions[0].tokens, np.full(len(g.completions[0].tokens), 0.25))
        for g in ragged_groups(10)
    ]
    learner = Learner(tiny_policy(model), SETTINGS, likelihood)
    for pack in likelihood_packs(examples, tokens_per_pack=25):
        learner.accumulate(pack)
    plain = tiny_model("qwen3", attention="eager")
    with torch.no_grad():
        expected = -sum(float(0.25 * plain_logprobs(plain, p, c)[0].sum()) for p, c, _ in examples)
    assert learner.step(1e-3)["loss"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("optimizer", ["adamw", "adamw_8bit", "muon"])
def test_a_restored_optimizer_goes_on_exactly_as_the_uninterrupted_one(
    optimizer: Optimizer, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(moments, "SMALLEST", 1000)  # so that some tensors of a tiny model are packed
    how = replace(SETTINGS, optimizer=optimizer)
    groups = ragged_groups(11)
    made = packs(groups, _advantages(groups), _weights(groups), tokens_per_pack=10_000)

    def steps(learner: Learner, count: int) -> None:
        for _ in range(count):
            for pack in made:
                learner.accumulate(pack)
            learner.step(1e-2)

    through = tiny_model("qwen2", dtype=dtype)
    learner = Learner(tiny_policy(through), how, clipped)
    steps(learner, 2)
    resumed = tiny_model("qwen2", dtype=dtype)
    resumed.load_state_dict({name: tensor.clone() for name, tensor in through.state_dict().items()})
    state = learner.state_dict()
    assert any(tensor.dtype == torch.uint8 for tensor in state.values()) == (optimizer == "adamw_8bit")
    write_state(tmp_path, state, {})
    fresh = Learner(tiny_policy(resumed), how, clipped)
    fresh.load_state_dict(read_state(tmp_path)[0])
    steps(learner, 2)
    steps(fresh, 2)
    for ours, theirs in zip(resumed.parameters(), through.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_another_models_optimizer_state_is_refused() -> None:
    learner = Learner(tiny_policy(tiny_model("qwen2")), SETTINGS, clipped)
    with pytest.raises(RunError, match="another model"):
        learner.load_state_dict({"nobody.exp_avg": torch.zeros(1)})


def test_a_gradient_that_is_not_finite_moves_nothing() -> None:
    model = tiny_model("llama", dtype=torch.float32)
    before = [parameter.clone() for parameter in model.parameters()]
    learner = Learner(tiny_policy(model), SETTINGS, clipped)
    groups = ragged_groups(12)
    broken = _weights(groups) * np.nan
    for pack in packs(groups, _advantages(groups), broken, tokens_per_pack=10_000):
        learner.accumulate(pack)
    assert np.isnan(learner.step(1e-2)["grad_norm"])
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
