"""What a layer's computation keeps in memory, rehearsed: the real code on tensors that have shapes and no memory.

torch's fake tensors run the model, our attention and autograd without computing anything, and we count what lives.
So the count follows the code: norms, rotary embedding, gated or plain feed-forward layers, LoRA's branches,
windows, and how attention lays prompts and completions out. Measured memory without the heap's holes is met within
1 % (docs/PERFORMANCE.md).
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from grandrounds.errors import PolicyError
from grandrounds.kernels import install
from grandrounds.kernels.shared_prefix.layout import TreeLayout
from grandrounds.kernels.shared_prefix.tree import TokenTree, token_tree
from grandrounds.policy.load import recomputed
from grandrounds.policy.model import Policy, Recompute
from grandrounds.policy.outline import layer_kinds, shallow, weightless
from grandrounds.policy.recompute import recompute_layers
from grandrounds.recipe import PolicyRecipe

# Rehearsed are a small pack and one twice as large: what does not grow between them does not grow with tokens.
# Which step takes most may change between them; then the line through both is a little too high within.
TOKENS, TIMES = 2**11, 2


@dataclass(frozen=True)
class TokenCosts:
    """Bytes for each token forwarded at once.

    kept: what autograd keeps of all layers until the backward pass, but for what waits elsewhere. passing: what comes
    on top while one layer is computed, forward or backward. prefill: the most there is in sampling, where nothing is
    kept.
    fixed: bytes on top while a layer is computed that do not grow with tokens: parts of rows, and its gradients.
    """

    kept: float
    passing: float
    prefill: float
    fixed: float


def token_costs(
    recipe: PolicyRecipe, config: Any, dtype: torch.dtype, group: tuple[int, int, int]
) -> TokenCosts:
    """Rehearse one layer and two of each kind on groups of (prompt tokens, completions, completion tokens).

    Two layers, since a first one shares its input with what stands around the layers.
    Raises PolicyError for a model that decides by its numbers what it computes, as mixtures of experts do.
    """
    kinds = layer_kinds(config)
    one, two = (
        {kind: _rehearsed(recipe, shallow(config, [kind] * count), dtype, group) for kind in set(kinds)}
        for count in (1, 2)
    )
    first, *further = kinds
    return TokenCosts(
        kept=one[first].kept + sum(two[kind].kept - one[kind].kept for kind in further),
        passing=max(layers.passing for layers in two.values()),
        prefill=max(layers.prefill for layers in two.values()),
        fixed=max(layers.fixed for layers in two.values()),
    )


def _rehearsed(
    recipe: PolicyRecipe, config: Any, dtype: torch.dtype, group: tuple[int, int, int]
) -> TokenCosts:
    from torch._subclasses.fake_tensor import FakeTensorMode

    prompt, size, completion = group
    branches = (np.zeros(prompt, np.int64), [np.zeros(completion, np.int64)] * size)
    groups = -(-TOKENS // (prompt + size * completion))
    trees = [token_tree([branches] * count) for count in (groups, TIMES * groups)]
    layouts = [TreeLayout(tree) for tree in trees]  # outside, on real numbers: they ask what these are
    model, base = weightless(recipe, config, dtype)
    # Modules are recognised by real numbers, so before they have none.
    install(
        base,
        fused=recipe.kernels.fused,
        packed_weights=False,
        keep_inner=recomputed(recipe) != "feed_forward",
    )
    with FakeTensorMode(allow_non_fake_inputs=True):
        policy = _pretended(model, base, recomputed(recipe))
        try:
            few, many = (_trained(policy, *both) for both in zip(trees, layouts, strict=True))
            further = trees[1].size - trees[0].size
            passing = (many[1] - few[1]) / further
            return TokenCosts(
                kept=(many[0] - few[0]) / further,
                passing=passing,
                prefill=_sampled(policy, trees[1], layouts[1]) / trees[1].size,
                fixed=max(0, few[1] - passing * trees[0].size),
            )
        except (RuntimeError, TypeError, ValueError, AttributeError, LookupError) as error:
            raise PolicyError(
                f"this architecture ({config.model_type}) cannot be planned: {str(error).strip()[:200]}",
                where=recipe.model,
                hint="Its memory can only be seen by trying; start with a small grpo.tokens_per_pack.",
            ) from error


def _trained(policy: Policy, tree: TokenTree, layout: TreeLayout) -> tuple[int, int]:
    """Bytes that live after the forward pass, and the most on top until the end of the backward pass."""
    with LiveBytes() as live:
        states = policy.hidden(tree.tokens, tree.positions, layout).index_select(0, tree.source)
        kept = live.now
        if states.requires_grad:
            states.backward(torch.empty_like(states))
    return kept, live.most - kept


def _sampled(policy: Policy, tree: TokenTree, layout: TreeLayout) -> int:
    with LiveBytes() as live, torch.no_grad():
        policy.hidden(tree.tokens, tree.positions, layout)
    return live.most


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of the tensors made within the block: `now` alive, `most` alive at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self._sizes: dict[int, int] = {}  # storage -> bytes

    def __torch_dispatch__(
        self,
        function: Any,
        types: Any,
        arguments: tuple[Any, ...] = (),
        options: dict[str, Any] | None = None,
    ) -> Any:
        given = {_storage(tensor) for tensor in tree_iter((arguments, options)) if isinstance(tensor, Tensor)}
        result = function(*arguments, **(options or {}))
        for tensor in tree_iter(result):
            if isinstance(tensor, Tensor) and _storage(tensor) not in given:
                self._born(tensor.untyped_storage())
        return result

    def _born(self, storage: torch.UntypedStorage) -> None:
        if storage._cdata in self._sizes:
            return
        self._sizes[storage._cdata] = storage.nbytes()
        self.now += storage.nbytes()
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._gone, storage._cdata)

    def _gone(self, storage: int) -> None:
        self.now -= self._sizes.pop(storage)


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _pretended(model: Any, base: Any, recompute: Recompute) -> Policy:
    """The policy around a meta model whose parameters pretend to lie on the CPU; tied ones stay tied."""
    made: dict[int, Tensor] = {}

    def pretend(tensor: Tensor) -> Tensor:
        if id(tensor) not in made:
            fake = torch.empty(tensor.shape, dtype=tensor.dtype)
            parameter = isinstance(tensor, nn.Parameter)
            made[id(tensor)] = nn.Parameter(fake, tensor.requires_grad) if parameter else fake
        return made[id(tensor)]

    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is not None:
                    tensors[name] = pretend(tensor)
    policy = Policy(
        model=model,
        base=base,
        tokenizer=None,
        device=torch.device("cpu"),
        eos_ids=frozenset(),
        end_id=0,
        max_positions=0,
        adapter=model is not base,
        description="",
        recompute=recompute,
    )
    if recompute == "offload":
        recompute_layers(base, _elsewhere)
    return policy


def _elsewhere() -> saved_tensors_hooks:
    """Within the block, what autograd saves waits in another memory, which nobody counts."""
    return saved_tensors_hooks(
        lambda tensor: (tensor.shape, tensor.dtype), lambda saved: torch.empty(saved[0], dtype=saved[1])
    )
