"""A numeric check at loading: our attention and head compute what the model itself computes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from grandrounds.errors import PolicyError
from grandrounds.kernels.attention import AttentionRule
from grandrounds.kernels.shared_prefix.layout import TreeLayout
from grandrounds.kernels.shared_prefix.tree import TokenTree, padded_sequences, token_tree
from grandrounds.policy.logprobs import completion_states
from grandrounds.policy.model import Policy

# Lengths of the prompt and of each of two completions: the second one must not see the first.
PROMPT, BRANCH = 6, 4
SERVED = {"full_attention", "sliding_attention"}
HINT = "Choose a decoder-only transformer such as Llama, Qwen, Gemma, Mistral or Phi."


class _Witness(TreeLayout):
    """Records which layers attended, and whether with a sliding window."""

    def __init__(self, tree: TokenTree) -> None:
        super().__init__(tree)
        self.windowed: dict[int, bool] = {}

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, rule: AttentionRule) -> Tensor:
        """See `kernels.attention.Layout`."""
        self.windowed[layer] = rule.window is not None
        return super().attend(layer, query, key, value, rule)


@torch.no_grad()
def verify(policy: Policy, name: str) -> None:
    """PolicyError unless log-probs by our attention and head equal those of the model's own forward pass.

    It catches models that would silently be computed wrong: recurrent or hybrid layers, positions handled outside of
    our attention (ALiBi), logits scaled in ways that we do not know, and windows that a dozen tokens do not fill. It
    costs forward passes over 34 tokens.
    """
    generator = np.random.Generator(np.random.Philox(key=7))
    sizes, vocabulary = (PROMPT, BRANCH, BRANCH), policy.head().weight.shape[0]
    prompt, *branches = (generator.integers(0, vocabulary, size) for size in sizes)
    kind = policy.base.config.model_type
    tree = token_tree([(prompt, branches)], policy.device)
    witness = _Witness(tree)
    try:
        with torch.enable_grad():  # as in training, where modules compute by `kernels.fused`
            ours = policy.logits(completion_states(policy, tree, witness)).detach()
    except (AttributeError, TypeError, ValueError, IndexError, RuntimeError) as error:
        raise PolicyError(
            f"this architecture ({kind}) cannot be computed by our attention: {str(error).strip()[:200]}",
            where=name,
            hint=HINT,
        ) from error
    if policy.kernels.shared_prefix:
        _check_layers(policy, witness, name)
    attention = policy.base.config._attn_implementation
    plain, _, _ = padded_sequences(tree)
    try:
        policy.base.set_attn_implementation("eager")
        theirs = policy.base(input_ids=plain, use_cache=False).logits[:, PROMPT - 1 : -1]
    finally:
        policy.base.set_attn_implementation(attention)
    if not torch.isfinite(theirs).all():
        raise PolicyError(
            "the model's logits are not finite", where=name, hint="Its weights are damaged, or need float32."
        )
    ours, theirs = torch.log_softmax(ours.float(), -1), torch.log_softmax(theirs.flatten(0, 1).float(), -1)
    difference, allowed = _difference(ours, theirs, policy.head().weight.dtype)
    if not difference <= allowed:
        raise PolicyError(
            f"this architecture ({kind}) is not computed exactly by our attention "
            f"(log-probs differ by {difference:.3g})",
            where=name,
            hint=HINT,
        )


def _difference(ours: Tensor, theirs: Tensor, dtype: torch.dtype) -> tuple[float, float]:
    """How far two sets of log-probs [C, V] are apart, and how far they may be.

    The largest difference, or in bfloat16 the difference expected under the model's own probabilities: with real
    weights transformers' own two implementations differ by more than 3 for tokens that never occur (SmolLM2-135M).
    """
    apart = (ours - theirs).abs()
    if dtype != torch.bfloat16:
        return float(apart.max()), 1e-3
    return float((theirs.exp() * apart).sum(-1).mean()), 0.3


def _check_layers(policy: Policy, witness: _Witness, name: str) -> None:
    """PolicyError unless every layer uses our attention, and no other kind of layer. Log-probs are not enough: a
    convolution may have small weights."""
    config = policy.base.config.get_text_config()
    kinds = getattr(config, "layer_types", None) or []
    strange = sorted(set(kinds) - SERVED)
    elsewhere = sorted(set(range(config.num_hidden_layers)) - witness.windowed.keys())
    # A dozen tokens fill no window: the log-probs would not show a window that the model does not pass to us.
    unseen = [
        layer
        for layer, kind in enumerate(kinds)
        if kind in SERVED
        and layer in witness.windowed
        and witness.windowed[layer] != kind.startswith("sliding")
    ]
    if strange:
        reason = f"has layers of the kind {', '.join(strange)}"
    elif elsewhere:
        reason = f"computes layer {elsewhere[0]} without our attention"
    elif unseen:
        reason = f"does not pass the sliding window of layer {unseen[0]} to our attention"
    else:
        return
    raise PolicyError(f"this architecture ({config.model_type}) {reason}", where=name, hint=HINT)
