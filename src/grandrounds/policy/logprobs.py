"""Log-probabilities of a tree's completion tokens under a policy."""

from __future__ import annotations

import torch
from torch import Tensor

from grandrounds.kernels.attention import Layout
from grandrounds.kernels.head import token_logprobs
from grandrounds.kernels.shared_prefix.layout import TreeLayout
from grandrounds.kernels.shared_prefix.tree import TokenTree, padded_sequences
from grandrounds.policy.model import Policy


def tree_logprobs(
    policy: Policy,
    tree: TokenTree,
    targets: Tensor,  # [C]
    *,
    temperature: float = 1.0,
    entropy_gradient: bool = False,
) -> tuple[Tensor, Tensor]:
    """log p [C] of each completion token given the tokens before it, and the entropy there [C], which has no gradient
    unless it is asked for.

    The head is applied only to states that predict completion tokens: training uses no others.
    """
    if tree.copies is None:
        return _logprobs(policy, completion_states(policy, tree), targets, temperature, entropy_gradient)
    distinct = torch.empty_like(tree.source)
    distinct[tree.copies] = targets  # copies have equal targets
    states = completion_states(policy, tree)
    logprobs, entropy = _logprobs(policy, states, distinct, temperature, entropy_gradient)
    return logprobs.index_select(0, tree.copies), entropy.index_select(0, tree.copies)


def _logprobs(
    policy: Policy, states: Tensor, targets: Tensor, temperature: float, entropy_gradient: bool
) -> tuple[Tensor, Tensor]:
    if not policy.kernels.head:
        logits = policy.logits(states)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature
        logs = torch.log_softmax(logits, -1)
        entropy = -(logs.exp() * logs).sum(-1)
        return logs.gather(1, targets[:, None])[:, 0], entropy if entropy_gradient else entropy.detach()
    head = policy.head()
    return token_logprobs(
        states.to(head.weight.dtype),
        head.weight,
        targets,
        bias=head.bias,
        softcap=head.softcap,
        temperature=temperature,
        entropy_gradient=entropy_gradient,
    )


def completion_states(policy: Policy, tree: TokenTree, layout: Layout | None = None) -> Tensor:
    """States [U, d] that predict the distinct completion tokens. layout: by default the tree's.

    Without shared prefixes every completion is computed after a copy of its prompt, in one padded batch.
    """
    if policy.kernels.shared_prefix:
        return policy.hidden(tree.tokens, tree.positions, layout or TreeLayout(tree)).index_select(
            0, tree.source
        )
    tokens, mask, source = padded_sequences(tree)
    return policy.padded_hidden(tokens, mask).flatten(0, 1).index_select(0, source)
