"""The chunked head equals the whole softmax, forward and backward, and never holds the whole matrix."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from grandrounds.kernels import head
from grandrounds.kernels.head import token_logprobs

TOKENS, WIDTH, WORDS = 23, 6, 17


def _inputs(dtype: torch.dtype, bias: bool = True) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    noise = torch.Generator().manual_seed(0)
    hidden = torch.randn(TOKENS, WIDTH, generator=noise, dtype=torch.float64).to(dtype).requires_grad_()
    weight = torch.randn(WORDS, WIDTH, generator=noise, dtype=torch.float64).to(dtype).requires_grad_()
    shift = torch.randn(WORDS, generator=noise, dtype=torch.float64).to(dtype).requires_grad_()
    return hidden, weight, shift if bias else None, torch.randint(WORDS, (TOKENS,), generator=noise)


def _whole(hidden, weight, bias, targets, softcap, temperature) -> tuple[Tensor, Tensor]:
    logits = torch.nn.functional.linear(hidden, weight, bias)
    if softcap:
        logits = softcap * torch.tanh(logits / softcap)
    logs = torch.log_softmax(logits / temperature, -1)
    return logs[torch.arange(TOKENS), targets], -(logs.exp() * logs).sum(-1)


@pytest.mark.parametrize("chunk", [1, 5, 23, 100])
@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("bias", [True, False])
def test_chunks_equal_the_whole_softmax(chunk: int, softcap: float | None, bias: bool) -> None:
    coefficients = torch.linspace(-1, 1, TOKENS, dtype=torch.float64)
    results = []
    for compute in (
        lambda h, w, b, y: token_logprobs(h, w, y, bias=b, softcap=softcap, temperature=0.7, chunk=chunk),
        lambda h, w, b, y: _whole(h, w, b, y, softcap, 0.7),
    ):
        hidden, weight, shift, targets = _inputs(torch.float64, bias)
        logprobs, entropy = compute(hidden, weight, shift, targets)
        (coefficients * logprobs).sum().backward()
        gradients = [t.grad for t in (hidden, weight, shift) if t is not None]
        results.append([logprobs.detach(), entropy.detach(), *gradients])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("bias", [True, False])
def test_the_entropy_has_a_gradient_where_it_is_asked_for(
    bias: bool, softcap: float | None, frozen: bool
) -> None:
    one, two = (
        torch.linspace(-1, 1, TOKENS, dtype=torch.float64),
        torch.linspace(2, -1, TOKENS, dtype=torch.float64),
    )
    results = []
    for compute in (
        lambda h, w, b, y: token_logprobs(
            h, w, y, bias=b, softcap=softcap, temperature=0.7, chunk=5, entropy_gradient=True
        ),
        lambda h, w, b, y: _whole(h, w, b, y, softcap, 0.7),
    ):
        hidden, weight, shift, targets = _inputs(torch.float64, bias)
        if frozen:
            weight, shift = weight.detach(), None if shift is None else shift.detach()
        logprobs, entropy = compute(hidden, weight, shift, targets)
        (one * logprobs + two * entropy).sum().backward()
        results.append([t.grad for t in (hidden, weight, shift) if t is not None and t.requires_grad])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


def test_a_frozen_head_gets_no_gradient_but_the_states_do() -> None:
    hidden, weight, _, targets = _inputs(torch.float32, False)
    token_logprobs(hidden, weight.detach(), targets, chunk=4)[0].sum().backward()
    assert hidden.grad is not None
    assert weight.grad is None


def test_bfloat16_weights_give_float32_logprobs_that_are_normalised() -> None:
    hidden, weight, _, _ = _inputs(torch.bfloat16, False)
    every = torch.stack(
        [token_logprobs(hidden, weight, torch.full((TOKENS,), word), chunk=4)[0] for word in range(WORDS)]
    )
    assert every.dtype == torch.float32
    torch.testing.assert_close(every.exp().sum(0), torch.ones(TOKENS), rtol=1e-5, atol=1e-5)
    every.sum().backward()
    assert hidden.grad is not None
    assert hidden.grad.dtype == torch.bfloat16


def test_no_more_than_one_chunk_of_logits_is_made_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    whole = head._logits

    def watched(hidden: Tensor, *rest) -> Tensor:
        sizes.append(len(hidden))
        return whole(hidden, *rest)

    monkeypatch.setattr(head, "_logits", watched)
    hidden, weight, _, targets = _inputs(torch.float32, False)
    token_logprobs(hidden, weight, targets, chunk=5)[0].sum().backward()
    assert max(sizes) == 5
