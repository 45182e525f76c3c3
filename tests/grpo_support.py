"""Tiny random models and the plain computation the packed one must equal."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    LlamaConfig,
    MistralConfig,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from grandrounds.kernels.attention import ATTENTION, register
from grandrounds.policy.model import Policy
from grandrounds.types import Answer, Case, Completion, Group, Prompt

VOCABULARY = 61
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
    "pad_token_id": 0,
}
CONFIGS: dict[str, PretrainedConfig] = {
    "qwen2": Qwen2Config(**SHAPE, tie_word_embeddings=True),
    "qwen3": Qwen3Config(**SHAPE),
    "llama": LlamaConfig(**SHAPE),
    "gemma2": Gemma2Config(
        **SHAPE,
        sliding_window=5,
        attn_logit_softcapping=2.0,
        final_logit_softcapping=3.0,
        query_pre_attn_scalar=8,
    ),
    "mistral": MistralConfig(**SHAPE, sliding_window=4),
}


def tiny_policy(model: Any) -> Policy:
    """A policy around a model that is already in memory; it has no tokenizer."""
    adapter = hasattr(model, "get_base_model")
    return Policy(
        model=model,
        base=model.get_base_model() if adapter else model,
        tokenizer=None,
        device=torch.device("cpu"),
        eos_ids=frozenset({0}),
        end_id=0,
        max_positions=128,
        adapter=adapter,
        description="tiny",
    )


def tiny_model(
    architecture: str, *, attention: str = ATTENTION, dtype: torch.dtype = torch.float64, seed: int = 0
):
    """The same random weights whatever the attention."""
    register()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        # A copy: the model keeps the configuration and writes its kind of attention into it.
        config = copy.deepcopy(CONFIGS[architecture])
        model = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    return model.to(dtype).eval()


@contextmanager
def everything_in_double() -> Iterator[None]:
    """transformers takes norms and softmaxes in float32 even in a float64 model: here in float64 too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "float32", torch.float64)
        patch.setattr(torch.Tensor, "float", torch.Tensor.double)
        yield


def ragged_groups(seed: int, *, groups: int = 3, size: int = 3, longest: int = 9) -> list[Group]:
    """Groups of unlike prompt and completion lengths; behaviour log-probs near uniform."""
    noise = np.random.default_rng(seed)

    def tokens(low: int) -> np.ndarray:
        return noise.integers(1, VOCABULARY, noise.integers(low, longest + 1))

    made = []
    for index in range(groups):
        case = Case(id=str(index), question="?", gold=Answer(kind="text", text="!"))
        completions = []
        for _ in range(size):
            sampled = tokens(1)
            logprobs = noise.normal(-4, 1, len(sampled)).astype(np.float32)
            completions.append(Completion(sampled, logprobs, "", "stop"))
        made.append(Group(Prompt(case, tokens(2), ""), tuple(completions)))
    return made


def agreeing_groups(seed: int, *, groups: int = 3, size: int = 5) -> list[Group]:
    """Groups whose completions share beginnings, and are repeated in part, down to groups of one completion alone."""
    noise = np.random.default_rng(seed)
    made = []
    for index, group in enumerate(ragged_groups(seed, groups=groups, size=size)):
        shared = noise.integers(1, VOCABULARY, index + 2)
        kinds = [noise.integers(1, VOCABULARY, noise.integers(0, 6)) for _ in range(max(1, 3 - index))]
        completions = []
        for _ in range(size):
            tokens = np.concatenate([shared, kinds[noise.integers(len(kinds))]])
            logprobs = noise.normal(-4, 1, len(tokens)).astype(np.float32)
            completions.append(Completion(tokens, logprobs, "", "stop"))
        made.append(Group(group.prompt, tuple(completions)))
    return made


def plain_logprobs(
    model: torch.nn.Module, prompt: np.ndarray, completion: np.ndarray, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Log-probs [T] and entropies [T] of one whole sequence alone through transformers' own forward."""
    sequence = torch.from_numpy(np.concatenate([prompt, completion]))[None]
    logits = model(input_ids=sequence, use_cache=False).logits[0, len(prompt) - 1 : -1] / temperature
    logs = torch.log_softmax(logits, -1)
    chosen = logs[torch.arange(len(completion)), torch.from_numpy(completion)]
    return chosen, -(logs.exp() * logs).sum(-1)


def gradients(model: torch.nn.Module) -> dict[str, Tensor]:
    """And clear them."""
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


def worst_relative_difference(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    """The largest |a - b| / max |b| over parameters."""
    assert ours.keys() == theirs.keys()
    return max(float((ours[n] - theirs[n]).abs().max() / theirs[n].abs().max()) for n in ours)
