"""A model's memory: weights, optimizer and KV cache are counted, activations are measured. All sizes are bytes.

The real code runs forward and backward through one and two layers with random weights. A layer's activations are the
difference of the two; the rest is a line through updates of one layer with few and many tokens. A wide model is
measured narrower, since activations grow in proportion to the width.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch

from grandrounds.algorithm.moments import moment_bytes
from grandrounds.errors import PolicyError
from grandrounds.kernels.head import token_logprobs
from grandrounds.kernels.packed_weights import packed_bytes
from grandrounds.kernels.shared_prefix.tree import TokenTree, token_tree
from grandrounds.planning.need import Measured, Work
from grandrounds.policy.live_bytes import peak_bytes
from grandrounds.policy.logprobs import completion_states
from grandrounds.policy.model import Policy
from grandrounds.policy.quantize import saved_bytes
from grandrounds.policy.random_model import (
    layer_kinds,
    parameter_bytes,
    random_model,
    random_policy,
    shallow,
    with_new_adapter,
)
from grandrounds.recipe import PolicyRecipe, Recipe
from grandrounds.sampling.choose import choose
from grandrounds.sampling.kv_cache import bytes_per_token
from grandrounds.sampling.sampler import SamplingSettings

# Tokens of the measured updates. The line goes through the two larger ones: some layers work on a part at a time.
FEW, MANY, MORE = 256, 2048, 4096
# Completion tokens of the measured head, and completions of the measured choice of tokens.
HEAD_ROWS, CHOSEN_ROWS = 512, 8
# Numbers that an update keeps for each token and unit of width, at most; layers of all families keep 2 to 5.
GENEROUS = 12


def counted(recipe: Recipe, config: Any, dtype: torch.dtype, device: str) -> dict[str, int]:
    """The exact parts by name, counted on the meta device. PolicyError where the model cannot be built.

    unpacked: the largest layer of 4-bit weights, unpacked. copies: packed copies of weights for sampling on a CPU.
    kv_token: keys and values of one token in all layers.
    """
    model, base = random_model(recipe.policy, config, dtype)
    total, trained = parameter_bytes(model)
    saved, unpacked = saved_bytes(base) if recipe.policy.quantize == "4bit" else (0, 0)
    adapters = trained if model is not base else 0
    # The larger one where warm-up and rounds use different optimizers.
    used = {
        recipe.grpo.optimizer if recipe.rounds else None,
        recipe.sft.optimizer if recipe.sft.steps else None,
    }
    moments = partial(moment_bytes, eight_bits=used <= {"adamw_8bit", None})
    return {
        "weights": total - adapters - saved,
        "unpacked": unpacked,
        "adapters": adapters,
        "reference": total if recipe.grpo.beta and not adapters else 0,
        "optimizer": sum(moments(parameter) for parameter in model.parameters() if parameter.requires_grad),
        "gradients": trained,
        "copies": packed_bytes(base) if device == "cpu" and recipe.policy.kernels.packed_weights else 0,
        "kv_token": bytes_per_token(config, dtype.itemsize),
    }


def generous(config: Any, work: Work) -> Measured:
    """An upper bound for every model: a run that fits with this needs no measurement."""
    text = config.get_text_config()
    scores = text.num_attention_heads * work.sequence  # kept by attention that does not recompute them
    layers = text.num_hidden_layers * (text.hidden_size + text.intermediate_size + scores)
    token, row = (4 * GENEROUS * size for size in (layers, text.vocab_size))
    return Measured(token, fixed=0, offloaded=0, head=HEAD_ROWS * row, prefill=token, row=row)


def measured(recipe: PolicyRecipe, config: Any, dtype: torch.dtype, work: Work, device: str) -> Measured:
    """Measure activations on the device. PolicyError for a model that our attention cannot compute.

    A GPU that is not here is replaced by the CPU in float32, and the result scaled: other types may take minutes
    there.
    """
    here, exact = torch.device(device), dtype
    if here.type == "cuda" and not torch.cuda.is_available():
        here, exact = torch.device("cpu"), torch.float32
    recipe = with_new_adapter(recipe)
    offload = recipe.recompute == "offload"
    if offload:  # keeps what `layers` keeps, in the computer's memory
        recipe = recipe.model_copy(update={"recompute": "layers"})
    kinds = layer_kinds(config)
    each = list(dict.fromkeys(kinds))
    try:
        (one, times), (two, _) = (_small(recipe, config, each * depth, exact, here) for depth in (1, 2))
        few, many, more = (_tree(work, tokens, here) for tokens in (FEW, MANY, MORE))
        low, high, highest = (_update(one, tree) for tree in (few, many, more))
        layer = (_update(two, few) - low) / few.size / len(each)
        prefill = peak_bytes(here, torch.no_grad()(lambda: completion_states(one, many)))
    except (RuntimeError, TypeError, ValueError, AttributeError, LookupError) as error:
        raise PolicyError(
            f"this architecture ({config.model_type}) cannot be planned: {str(error).strip()[:200]}",
            where=recipe.model,
            hint="Its memory can only be seen by trying; start with a small grpo.tokens_per_pack.",
        ) from error
    token, scale = (
        (highest - high) / (more.size - many.size),
        times * dtype.itemsize / exact.itemsize,
    )
    layers = scale * layer * len(kinds)
    return Measured(
        token=scale * (token - layer * len(each)) + (0 if offload else layers),
        fixed=scale * max(0.0, high - token * many.size),
        offloaded=layers if offload else 0.0,
        head=_head(one, config, work),
        prefill=scale * prefill / many.size,
        row=_row(config, here),
    )


def _small(
    recipe: PolicyRecipe, config: Any, kinds: list[str | None], dtype: torch.dtype, device: torch.device
) -> tuple[Policy, int]:
    """A policy of these layers with its gradients allocated, and how many times narrower it is."""
    small, times = shallow(config, kinds)
    policy = random_policy(recipe, small, dtype, device)
    for parameter in policy.model.parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
    return policy, times


def _tree(work: Work, tokens: int, device: torch.device) -> TokenTree:
    """A tree of about so many tokens, in as few groups as possible, with the run's proportions of lengths."""
    groups = -(-tokens // work.group_tokens)
    share = tokens / (groups * work.group_tokens)
    prompt, completion = (
        np.zeros(max(1, round(size * share)), np.int64) for size in (work.prompt_tokens, work.max_new_tokens)
    )
    return token_tree([(prompt, [completion] * work.group_size)] * groups, device)


def _update(policy: Policy, tree: TokenTree) -> int:
    def update() -> None:
        states = completion_states(policy, tree)
        states.backward(torch.ones_like(states))

    if policy.device.type == "cuda":  # the first update compiles kernels and allocates libraries' workspaces
        update()
    return peak_bytes(policy.device, update)


def _head(policy: Policy, config: Any, work: Work) -> int:
    """Memory of a chunk of logits, and of what an entropy's gradient needs beside it. It does not depend on the hidden
    width; a trained head's gradient does."""
    text, rows, like = config.get_text_config(), min(HEAD_ROWS, work.pack_tokens), policy.head().weight
    device, dtype, trained = policy.device, like.dtype, like.requires_grad
    states = torch.zeros(rows, 1, dtype=dtype, device=device, requires_grad=True)
    weight = torch.zeros(text.vocab_size, 1, dtype=dtype, device=device, requires_grad=trained)
    targets = torch.zeros(rows, dtype=torch.int64, device=device)

    def update() -> None:
        if policy.kernels.head:
            logprobs, entropy = token_logprobs(
                states, weight, targets, entropy_gradient=work.entropy_gradient
            )
        else:
            logs = torch.log_softmax((states @ weight.T).float(), -1)
            logprobs, entropy = (
                logs[:, 0],
                (logs.exp() * logs).sum(-1) if work.entropy_gradient else logs[:, 0],
            )
        (logprobs.sum() + (entropy.sum() if work.entropy_gradient else 0)).backward()

    chunk = peak_bytes(device, update)
    rows_at_once = 1 if policy.kernels.head else work.pack_tokens / rows  # one chunk, or all rows
    return round(chunk * rows_at_once) + (4 * text.vocab_size * text.hidden_size if trained else 0)


def _row(config: Any, device: torch.device) -> float:
    def choice() -> None:
        logits = torch.zeros(CHOSEN_ROWS, config.get_text_config().vocab_size, device=device)
        choose(logits, torch.arange(len(logits), device=logits.device), logits[:, 0], SamplingSettings(1))

    return peak_bytes(device, choice) / CHOSEN_ROWS
