"""Filters leave a distribution, tokens are drawn from exactly that one, and noise is a function of its key."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from grandrounds.sampling.choose import choose, filtered
from grandrounds.sampling.noise import uniforms
from grandrounds.sampling.sampler import SamplingSettings

LOGITS = st.lists(st.floats(-30, 30, width=32), min_size=2, max_size=40).map(lambda row: torch.tensor([row]))
SETTINGS = st.builds(
    SamplingSettings,
    max_new_tokens=st.just(1),
    temperature=st.floats(0.1, 3),
    top_p=st.floats(0.01, 1),
    top_k=st.integers(0, 50),
    min_p=st.floats(0, 1),
)
NOISE = st.floats(0, 1, exclude_max=True, width=32)

ONLY = torch.zeros(1, dtype=torch.int64)  # the row of a single completion


def _of(row: list[float], noise: float = 0.5, **settings: float) -> tuple[list[int], list[float]]:
    """Tokens that may be drawn, and the distribution's probabilities of them."""
    made = SamplingSettings(max_new_tokens=1, **settings)
    left = filtered(torch.tensor([row]).log(), made)
    kept = torch.isfinite(left[0]).nonzero()[:, 0]
    return kept.tolist(), torch.softmax(left, -1)[0, kept].tolist()


def test_top_k_keeps_the_k_likeliest() -> None:
    assert _of([0.1, 0.4, 0.2, 0.3], top_k=2)[0] == [1, 3]


def test_top_p_keeps_the_token_that_crosses_the_mass() -> None:
    assert _of([0.5, 0.3, 0.15, 0.05], top_p=0.6)[0] == [0, 1]


def test_min_p_is_a_share_of_the_likeliest() -> None:
    assert _of([0.5, 0.3, 0.14, 0.06], min_p=0.25)[0] == [0, 1, 2]


def test_filters_act_one_after_the_other() -> None:
    # Of the three that top-k leaves (4/9, 3/9, 2/9), the first two hold 7/9.
    assert _of([0.4, 0.3, 0.2, 0.1], top_k=3, top_p=0.75)[0] == [0, 1]
    assert _of([0.4, 0.3, 0.2, 0.1], top_p=0.75)[0] == [0, 1, 2]


@given(LOGITS, SETTINGS)
def test_the_likeliest_token_always_stays(logits: torch.Tensor, settings: SamplingSettings) -> None:
    logits = logits / settings.temperature
    assert torch.isfinite(filtered(logits, settings)[0, logits[0] == logits.max()]).any()


@given(LOGITS, SETTINGS)
def test_filters_leave_a_row_alike_whatever_rows_are_beside_it(
    logits: torch.Tensor, settings: SamplingSettings
) -> None:
    logits = logits.round()  # with many equal ones, as in bfloat16
    beside = torch.cat([logits.flip(-1), logits, logits * 0])
    assert torch.equal(filtered(beside, settings)[1], filtered(logits, settings)[0])


@given(LOGITS, SETTINGS)
def test_logprobs_are_of_the_filtered_distribution_and_sum_to_one(
    logits: torch.Tensor, settings: SamplingSettings
) -> None:
    steps = 400
    noise = (torch.arange(steps) + 0.5) / steps
    tokens, logprobs = choose(logits.expand(steps, -1), torch.arange(steps), noise, settings)
    support = torch.isfinite(filtered(logits / settings.temperature, settings))[0]
    assert bool(support[tokens].all())
    drawn = dict(zip(tokens.tolist(), logprobs.tolist(), strict=True))
    total = sum(np.exp(list(drawn.values())))
    # Tokens rarer than the grid's step may be missed.
    assert 1 - int(support.sum()) / steps - 1e-4 <= total <= 1 + 1e-4


@given(LOGITS, SETTINGS, NOISE)
def test_a_filtered_token_is_never_drawn(
    logits: torch.Tensor, settings: SamplingSettings, noise: float
) -> None:
    tokens, logprobs = choose(logits, ONLY, torch.tensor([noise], dtype=torch.float32), settings)
    assert torch.isfinite(logprobs).all()
    assert torch.isfinite(filtered(logits / settings.temperature, settings)[0, tokens[0]])


def test_the_largest_noise_draws_the_last_possible_token() -> None:
    largest = torch.tensor([np.nextafter(np.float32(1), np.float32(0))])
    logits = torch.tensor([[0.0, 1.0, -torch.inf, -torch.inf]])
    assert choose(logits, ONLY, largest, SamplingSettings(1))[0].tolist() == [1]
    assert choose(logits, ONLY, torch.zeros(1), SamplingSettings(1))[0].tolist() == [0]
    impossible_first = torch.tensor([[-torch.inf, 1.0, 0.0]])
    assert choose(impossible_first, ONLY, torch.zeros(1), SamplingSettings(1))[0].tolist() == [1]


@given(st.integers(1, 1500), NOISE, st.integers(0, 2**16))
def test_the_token_is_that_of_the_running_sum_in_float64(size: int, noise: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn(1, size, generator=generator)
    logits[0, torch.rand(size, generator=generator) < 0.3] = -torch.inf
    logits[0, int(torch.randint(size, (1,), generator=generator))] = 1.0
    token = int(
        choose(
            logits,
            ONLY,
            torch.tensor([noise], dtype=torch.float32),
            SamplingSettings(1),
        )[0]
    )
    probabilities = torch.softmax(logits.double(), -1)[0]
    cumulative = probabilities.cumsum(-1)
    assert probabilities[token] > 0
    assert cumulative[token] >= noise - 1e-5
    assert cumulative[token] - probabilities[token] <= noise + 1e-5


def test_greedy_takes_the_likeliest_with_the_models_own_logprob() -> None:
    logits = torch.tensor([[0.1, 0.6, 0.3]]).log()
    tokens, logprobs = choose(logits, ONLY, torch.tensor([0.99]), SamplingSettings(1, temperature=0, top_k=1))
    assert tokens.tolist() == [1]
    np.testing.assert_allclose(logprobs.exp(), [0.6], rtol=1e-6)


def test_sampled_frequencies_match_the_probabilities() -> None:
    """Chi-square over 20,000 draws of 12 tokens; 31.3 is passed with probability 0.001 if all is well."""
    count, size = 20_000, 12
    logits = torch.linspace(-2, 2, size)[None]
    settings = SamplingSettings(1, temperature=0.9, top_k=12, min_p=0.01)
    noise = torch.from_numpy(
        np.concatenate([uniforms((1, 2), f"case-{i}", 0, 20) for i in range(count // 20)])
    )
    tokens, logprobs = choose(logits, torch.zeros(count, dtype=torch.int64), noise, settings)
    expected = count * torch.softmax(filtered(logits / 0.9, settings), -1)[0].double().numpy()
    seen = np.bincount(tokens.numpy(), minlength=size)
    assert ((seen - expected) ** 2 / expected).sum() < 31.3
    np.testing.assert_allclose(logprobs.exp().numpy(), expected[tokens.numpy()] / count, rtol=1e-4)


def test_noise_is_a_function_of_key_case_attempt_and_position() -> None:
    base = uniforms((1, 2), "case", 0, 50)
    assert base.dtype == np.float32
    assert base.min() >= 0
    assert base.max() < 1
    np.testing.assert_array_equal(base, uniforms((1, 2), "case", 0, 50))
    # A longer row begins as the shorter one: max_new_tokens does not change what was already said.
    np.testing.assert_array_equal(base, uniforms((1, 2), "case", 0, 80)[:50])
    others = [
        uniforms((1, 3), "case", 0, 50),
        uniforms((1, 2), "other", 0, 50),
        uniforms((1, 2), "case", 1, 50),
        uniforms((12,), "case", 0, 50),
        uniforms((1,), "2case", 0, 50),
    ]
    assert all(not np.array_equal(base, other) for other in others)


def test_noise_of_many_rows_is_uniform_and_unrelated() -> None:
    rows = np.stack([uniforms((0,), f"case-{i}", 0, 100) for i in range(200)]).astype(np.float64)
    counts = np.histogram(rows, bins=20, range=(0, 1))[0]
    assert ((counts - 1000) ** 2 / 1000).sum() < 43.8  # chi-square, 19 degrees, probability 0.001
    correlation = np.corrcoef(rows) - np.eye(len(rows))
    assert np.abs(correlation).max() < 0.5
