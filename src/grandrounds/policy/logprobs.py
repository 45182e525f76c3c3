"""Log-probabilities of a tree's completion tokens under a policy."""

from __future__ import annotations

from torch import Tensor

from grandrounds.policy.head import token_logprobs
from grandrounds.policy.model import Policy
from grandrounds.policy.tree import TokenTree
from grandrounds.policy.tree_layout import TreeLayout


def tree_logprobs(
    policy: Policy,
    tree: TokenTree,
    targets: Tensor,  # [C]
    *,
    temperature: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """log p [C] of each completion token given what stands before it, and the entropy there [C, no gradient].

    The head sees completion tokens only: the states of a prompt's other tokens predict nothing we train on.
    """
    hidden = policy.hidden(tree.tokens, tree.positions, TreeLayout(tree))  # [S, d]
    head = policy.head()
    return token_logprobs(
        hidden.index_select(0, tree.source).to(head.weight.dtype),
        head.weight,
        targets,
        bias=head.bias,
        softcap=head.softcap,
        temperature=temperature,
    )
