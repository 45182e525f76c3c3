"""One numeric check at loading: what we compute is what the model computes."""

from __future__ import annotations

import torch

from grandrounds.errors import PolicyError
from grandrounds.policy import attention
from grandrounds.policy.model import Policy
from grandrounds.policy.tree import TreeLayout, token_tree

# Enough tokens for a second completion that must not see the first one.
PROMPT, BRANCH = 6, 4


@torch.no_grad()
def verify(policy: Policy, name: str) -> None:
    """PolicyError unless log-probs through our attention and head equal those of the model's own forward pass.

    Catches what would be silently wrong: recurrent or hybrid layers, positions outside of our attention (ALiBi),
    logits that are scaled in ways we do not know. Costs one forward pass of 28 tokens.
    """
    import numpy as np

    vocabulary = policy.head().weight.shape[0]
    generator = np.random.Generator(np.random.Philox(key=7))
    rows = [generator.integers(0, vocabulary, size) for size in (PROMPT, BRANCH, BRANCH)]
    prompt, first, second = rows
    tree = token_tree([(prompt, [first, second])], policy.device)
    ours = _logits(policy, tree)
    plain = torch.from_numpy(np.stack([np.concatenate([prompt, first]), np.concatenate([prompt, second])]))
    try:
        policy.base.set_attn_implementation("eager")
        theirs = policy.base(input_ids=plain.to(policy.device), use_cache=False).logits[:, PROMPT - 1 : -1]
    finally:
        policy.base.set_attn_implementation(attention.ATTENTION)
    ours, theirs = torch.log_softmax(ours.float(), -1), torch.log_softmax(theirs.flatten(0, 1).float(), -1)
    error = float((ours - theirs).abs().max())
    allowed = 0.5 if policy.head().weight.dtype == torch.bfloat16 else 1e-3
    if not error <= allowed:
        raise PolicyError(
            f"this architecture ({policy.base.config.model_type}) is not computed exactly by our attention "
            f"(log-probs differ by {error:.3g})",
            where=name,
            mend="Choose a decoder-only transformer such as Llama, Qwen, Gemma, Mistral or Phi.",
        )


def _logits(policy: Policy, tree) -> torch.Tensor:  # type: ignore[no-untyped-def]
    head = policy.head()
    hidden = policy.hidden(tree.tokens, tree.positions, TreeLayout(tree)).index_select(0, tree.source)
    logits = torch.nn.functional.linear(hidden.to(head.weight.dtype), head.weight, head.bias)
    return logits if head.softcap is None else torch.tanh(logits / head.softcap) * head.softcap
