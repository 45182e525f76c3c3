"""One numeric check at loading: what we compute is what the model computes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from grandrounds.errors import PolicyError
from grandrounds.policy import attention
from grandrounds.policy.model import Policy
from grandrounds.policy.tree import TokenTree, token_tree
from grandrounds.policy.tree_layout import TreeLayout

# Enough tokens for a second completion that must not see the first one.
PROMPT, BRANCH = 6, 4
SERVED = {"full_attention", "sliding_attention"}
HINT = "Choose a decoder-only transformer such as Llama, Qwen, Gemma, Mistral or Phi."


class _Witness(TreeLayout):
    """Remembers which layers attended, and whether through a window."""

    def __init__(self, tree: TokenTree) -> None:
        super().__init__(tree)
        self.windowed: dict[int, bool] = {}

    def attend(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        scale: float,
        window: int | None,
        softcap: float | None,
    ) -> Tensor:
        """See `policy.attention.Layout`."""
        self.windowed[layer] = window is not None
        return super().attend(layer, query, key, value, scale=scale, window=window, softcap=softcap)


@torch.no_grad()
def verify(policy: Policy, name: str) -> None:
    """PolicyError unless log-probs through our attention and head equal those of the model's own forward pass.

    Catches what would be silently wrong: recurrent or hybrid layers, positions outside of our attention (ALiBi),
    logits that are scaled in ways we do not know, windows that a dozen tokens do not fill. Costs one forward pass of
    34 tokens.
    """
    generator = np.random.Generator(np.random.Philox(key=7))
    rows = [generator.integers(0, policy.head().weight.shape[0], size) for size in (PROMPT, BRANCH, BRANCH)]
    prompt, first, second = rows
    kind = policy.base.config.model_type
    witness = _Witness(token_tree([(prompt, [first, second])], policy.device))
    try:
        with torch.enable_grad():  # as in training, where some modules compute in a way of our own (`fused`)
            ours = _logits(policy, witness).detach()
    except (AttributeError, TypeError, ValueError, IndexError, RuntimeError) as error:
        raise PolicyError(
            f"this architecture ({kind}) cannot be computed by our attention: {str(error).strip()[:200]}",
            where=name,
            hint=HINT,
        ) from error
    _check_layers(policy, witness, name)
    plain = torch.from_numpy(np.stack([np.concatenate([prompt, first]), np.concatenate([prompt, second])]))
    try:
        policy.base.set_attn_implementation("eager")
        theirs = policy.base(input_ids=plain.to(policy.device), use_cache=False).logits[:, PROMPT - 1 : -1]
    finally:
        policy.base.set_attn_implementation(attention.ATTENTION)
    if not torch.isfinite(theirs).all():
        raise PolicyError(
            "the model's logits are not finite", where=name, hint="Its weights are damaged, or need float32."
        )
    ours, theirs = torch.log_softmax(ours.float(), -1), torch.log_softmax(theirs.flatten(0, 1).float(), -1)
    difference = float((ours - theirs).abs().max())
    allowed = 0.5 if policy.head().weight.dtype == torch.bfloat16 else 1e-3
    if not difference <= allowed:
        raise PolicyError(
            f"this architecture ({kind}) is not computed exactly by our attention "
            f"(log-probs differ by {difference:.3g})",
            where=name,
            hint=HINT,
        )


def _check_layers(policy: Policy, witness: _Witness, name: str) -> None:
    """Every layer attends, through our attention alone. Numbers do not tell: a convolution may have small weights."""
    config = policy.base.config.get_text_config()
    kinds = getattr(config, "layer_types", None) or []
    strange = sorted(set(kinds) - SERVED)
    elsewhere = sorted(set(range(config.num_hidden_layers)) - witness.windowed.keys())
    # In a dozen tokens no window shows: one that is not handed on to us would go unnoticed.
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
        reason = f"keeps the window of layer {unseen[0]} to itself"
    else:
        return
    raise PolicyError(f"this architecture ({config.model_type}) {reason}", where=name, hint=HINT)


def _logits(policy: Policy, layout: TreeLayout) -> Tensor:
    head, tree = policy.head(), layout.tree
    hidden = policy.hidden(tree.tokens, tree.positions, layout).index_select(0, tree.source)
    logits = torch.nn.functional.linear(hidden.to(head.weight.dtype), head.weight, head.bias)
    return logits if head.softcap is None else torch.tanh(logits / head.softcap) * head.softcap
