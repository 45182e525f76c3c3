"""A layer's norms, feed-forward block and linear layers, each as one autograd function: fewer activations are kept, and
fewer bytes pass through memory.

transformers and PEFT compute op by op, and keep every op's result for the backward pass. Here

    RMS norm        keeps its input and one number per row; the rest is recomputed, a part of the rows at a time
    feed-forward    keeps its input, gate and up; or none of these
    linear, LoRA    y = x Wᵀ + b + s (x Aᵀ) Bᵀ keeps its input, or not; adds the LoRA term in place

To save memory, an input that one of our norms has produced is not kept: norm outputs are then recomputed in the
backward pass. The arithmetic is the same, rounded in another order. A module is replaced only if a small twin of it
computes what our function computes (`recognise`). Its linear layers must be of a kind that `linear_of` knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from grandrounds.kernels.linear import is_linear, linear_of
from grandrounds.kernels.products import add_product, linear, summing_type
from grandrounds.kernels.recognise import agree, feed_forward_twin, norm_twin

# A part of the rows is small enough that its widest tensor stays in the CPU cache. With fewer rows than SMALLEST_PART,
# reading the weights again for each part would dominate the time.
PART_BYTES = 2 << 20
SMALLEST_PART = 512

_aten = torch.ops.aten
# (activation; its backward, which takes the result's gradient and the input, and writes to `grad_input`)
_ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[..., Any]]] = {
    "silu": (F.silu, _aten.silu_backward.grad_input),
    "gelu": (F.gelu, _aten.gelu_backward.grad_input),
    "gelu_tanh": (
        partial(F.gelu, approximate="tanh"),
        partial(_aten.gelu_backward.grad_input, approximate="tanh"),
    ),
}
# Names of a feed-forward block's linear layers in model files: those before the activation, and the one after it.
_BLOCKS = ((("gate_proj", "up_proj"), "down_proj"), (("fc1",), "fc2"))
# Norms and blocks that were tried: the function that serves them, or None. The key is all that distinguishes them.
_known: dict[tuple[Any, ...], Callable[[Any, Tensor], Tensor] | None] = {}


def training_forward(module: nn.Module, *, keep_inner: bool) -> Callable[[Any, Tensor], Tensor] | None:
    """Our forward function with gradients for a module; None where we have none for it."""
    if is_linear(module):
        return partial(_linear, keep_inner=keep_inner)
    if _is_norm(module):
        return _rms_norm
    for first, last in _BLOCKS:
        if all(hasattr(module, name) for name in (*first, last)):
            return _feed_forward_of(module, first, last, keep_inner)
    return None


def _is_norm(module: Any) -> bool:
    """Whether the module computes w · x / √(mean x² + ε)."""
    if list(module._parameters) != ["weight"] or module._modules or not hasattr(module, "variance_epsilon"):
        return False
    key = (type(module), module.variance_epsilon)
    if key not in _known:
        _known[key] = _rms_norm if agree(lambda: norm_twin(module), _rms_norm) else None
    return _known[key] is not None


def _feed_forward_of(
    module: nn.Module, first: tuple[str, ...], last: str, keep_inner: bool
) -> Callable[[Any, Tensor], Tensor] | None:
    """Our forward function for the block. Finds the block's activation by trying each one that we know."""
    inner = [child for name, child in module.named_children() if name not in (*first, last)]
    bias = getattr(getattr(module, last), "bias", None) is not None
    key = (type(module), *map(type, inner), bias, keep_inner)
    if key not in _known:
        forwards = (
            partial(_feed_forward, first=first, last=last, activation=name, keep_inner=keep_inner)
            for name in _ACTIVATIONS
        )
        served = (one for one in forwards if agree(lambda: feed_forward_twin(module, first, last), one))
        _known[key] = next(served, None)
    return _known[key]


def _rms_norm(self: Any, states: Tensor) -> Tensor:
    return _RmsNorm.apply(states, self.weight, self.variance_epsilon)


def _feed_forward(
    self: Any, states: Tensor, *, first: tuple[str, ...], last: str, activation: str, keep_inner: bool
) -> Tensor:
    modules = (getattr(self, name) for name in (*first, last))
    layers = [layer for module in modules if (layer := linear_of(module)) is not None]
    if len(layers) <= len(first):  # a kind of adapter that only PEFT computes
        return type(self).forward(self, states)
    tensors = [tensor for *four, _ in layers for tensor in four]
    scales = [scale for *_, scale in layers]
    norm = None if keep_inner else _norm_of(states)
    return _FeedForward.apply(states, norm, keep_inner, activation, scales, *tensors)


def _linear(self: Any, states: Tensor, *, keep_inner: bool) -> Tensor:
    layer = linear_of(self)
    if layer is None:
        return type(self).forward(self, states)
    *tensors, scale = layer
    return _Linear.apply(states, None if keep_inner else _norm_of(states), scale, *tensors)


class _Matrix:
    """y = x Wᵀ + b + s (x Aᵀ) Bᵀ for rows x [n, in], and its gradients, summed over parts of the rows.

    A and B are multiplied in W's precision and stored in their own, as autocast does.
    """

    a: Any  # Tensor, or None
    b: Any

    def __init__(
        self,
        tensors: Sequence[Any],  # W [out, in], b [out] or None, A [r, in] and B [out, r] or both None
        scale: float,
        wanted: Sequence[bool] = (),  # which gradients of these four
    ) -> None:
        self.weight, self.bias, *adapter = self._tensors = tuple(tensors)
        self.a, self.b = (tensor if tensor is None else tensor.to(self.weight.dtype) for tensor in adapter)
        self.scale, self.wanted = scale, wanted
        self._sums: list[Tensor | None] = [None] * 4

    def of(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """y [n, out], and x Aᵀ [n, r], which the backward pass needs again."""
        y = linear(x, self.weight, self.bias)
        if self.a is None:
            return y, None
        low = x @ self.a.T
        add_product(y, low, self.b.T, self.scale)
        return y, low

    def back(self, x: Tensor, low: Tensor | None, gradient: Tensor) -> Tensor:
        """The gradient of x [n, in] from that of y. Adds to the summed gradients of W, b, A and B."""
        to_x = linear(gradient, self.weight.T)
        if self.wanted[0]:
            if (total := self._sums[0]) is None:
                self._add(0, gradient.T @ x)
            else:  # in place
                add_product(total, gradient.T, x)
        if self.wanted[1]:
            self._add(1, gradient.sum(0, dtype=summing_type(gradient)))
        if low is not None:
            to_low = (gradient @ self.b).mul_(self.scale)
            add_product(to_x, to_low, self.a)
            if self.wanted[2]:
                self._add(2, to_low.T @ x)
            if self.wanted[3]:
                self._add(3, gradient.T @ (low * self.scale))
        return to_x

    def gradients(self) -> Iterator[Tensor | None]:
        """The gradients of W, b, A and B."""
        for tensor, total in zip(self._tensors, self._sums, strict=True):
            yield None if total is None or tensor is None else total.to(tensor.dtype)

    def _add(self, place: int, gradient: Tensor) -> None:
        """Sums are at least float32: bfloat16 sums over many parts would lose small terms."""
        total, precise = self._sums[place], gradient.to(summing_type(gradient))
        self._sums[place] = precise if total is None else total.add_(precise)


def _parts(rows: int, width: int) -> Iterator[slice]:
    """Parts of equal size, since a short part at the end would be multiplied slowly."""
    size = max(SMALLEST_PART, PART_BYTES // (4 * width))
    count = max(1, rows // size)
    return (slice(rows * part // count, rows * (part + 1) // count) for part in range(count))


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, norm: Any, scale: float, *tensors: Tensor | None) -> Tensor:
        x = states.flatten(0, -2)
        y, low = _Matrix(tensors, scale).of(x)
        ctx.save_for_backward(None if norm else x, low, *tensors)
        ctx.norm, ctx.scale, ctx.shape = norm, scale, states.shape
        return y.unflatten(0, states.shape[:-1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, low, *tensors = ctx.saved_tensors
        matrix = _Matrix(tensors, ctx.scale, ctx.needs_input_grad[3:])
        to_x = matrix.back(_given(x, ctx.norm), low, gradients[0].flatten(0, -2))
        return to_x.view(ctx.shape), None, None, *matrix.gradients()


class _FeedForward(torch.autograd.Function):
    """act(x Gᵀ) Dᵀ, or (act(x Gᵀ) · x Uᵀ) Dᵀ, with biases and LoRA. keep: whether gate and up are kept for backward."""

    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        norm: Any,
        keep: bool,
        activation: str,
        scales: list[float],
        *tensors: Tensor | None,
    ) -> Tensor:
        *first, last = _matrices(scales, tensors)
        act, _ = _ACTIVATIONS[activation]
        x = states.flatten(0, -2)
        kept = [matrix.of(x) for matrix in first] if keep else []  # gate, or gate and up
        y = x.new_empty(len(x), len(last.weight))
        low = None if last.a is None else x.new_empty(len(x), len(last.a), dtype=x.dtype)
        for part in _parts(len(x), len(first[0].weight)):
            gate, *up = [one[part] for one, _ in kept] or [matrix.of(x[part])[0] for matrix in first]
            product = act(gate)
            if up:
                product.mul_(up[0])
            y[part], part_low = last.of(product)
            if low is not None and part_low is not None:
                low[part] = part_low
        inner, lows = zip(*kept, strict=True) if keep else ((), ())
        ctx.save_for_backward(None if norm else x, *inner, *lows, low, *tensors)
        ctx.norm, ctx.keep, ctx.activation, ctx.scales = norm, keep, activation, scales
        return y.unflatten(0, states.shape[:-1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        count = len(ctx.scales) - 1
        kept = count if ctx.keep else 0
        x, *saved = ctx.saved_tensors
        inner, lows, low = saved[:kept], saved[kept : 2 * kept], saved[2 * kept]
        matrices = _matrices(ctx.scales, saved[2 * kept + 1 :], ctx.needs_input_grad[5:])
        *first, last = matrices
        act, act_backward = _ACTIVATIONS[ctx.activation]
        gradient = gradients[0].flatten(0, -2)
        to_x = gradient.new_empty(len(gradient), first[0].weight.shape[1])
        for part in _parts(len(gradient), len(first[0].weight)):
            part_x = _given(x, ctx.norm, part)
            if ctx.keep:
                pairs = [
                    (one[part], None if own is None else own[part])
                    for one, own in zip(inner, lows, strict=True)
                ]
            else:
                pairs = [matrix.of(part_x) for matrix in first]
            (gate, *up), part_lows = zip(*pairs, strict=True)
            active = act(gate)
            product = active * up[0] if up else active
            to_product = last.back(product, None if low is None else low[part], gradient[part])
            # In place: allocating new memory takes longer than the arithmetic.
            to_gate = torch.mul(to_product, up[0], out=product) if up else to_product
            act_backward(to_gate, gate, grad_input=to_gate)
            to_inner = [to_gate, *([to_product.mul_(active)] if up else [])]
            to_part = [
                matrix.back(part_x, own, grad)
                for matrix, own, grad in zip(first, part_lows, to_inner, strict=True)
            ]
            to_x[part] = sum(to_part[1:], to_part[0])
        return (
            to_x.unflatten(0, gradients[0].shape[:-1]),
            None,
            None,
            None,
            None,
            *(gradient for matrix in matrices for gradient in matrix.gradients()),
        )


def _matrices(scales: list[float], tensors: Sequence[Any], wanted: Sequence[bool] = ()) -> list[_Matrix]:
    fours = (slice(4 * i, 4 * i + 4) for i in range(len(scales)))
    return [_Matrix(tensors[four], scale, wanted[four]) for four, scale in zip(fours, scales, strict=True)]


class _RmsNorm(torch.autograd.Function):
    """w · x / √(mean x² + ε), with the mean in float32 at least."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        x = states.flatten(0, -2)
        y = torch.empty_like(x)
        scale = x.new_empty(len(x), 1, dtype=summing_type(x))
        for part in _parts(*x.shape):
            precise = x[part].to(scale.dtype)
            mean = torch.linalg.vecdot(precise, precise).div_(x.shape[1])
            scale[part] = mean.add_(epsilon).rsqrt_()[:, None]
            torch.mul((precise * scale[part]).to(x.dtype), weight, out=y[part])
        ctx.save_for_backward(states, weight, scale)
        return y.unflatten(0, states.shape[:-1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        states, weight, scale = ctx.saved_tensors
        x, gradient = states.flatten(0, -2), gradients[0].flatten(0, -2)
        to_x = torch.empty_like(x)
        to_weight = torch.zeros_like(weight, dtype=scale.dtype)
        precise_weight = weight.to(scale.dtype)
        for part in _parts(*x.shape):
            precise, given, root = x[part].to(scale.dtype), gradient[part].to(scale.dtype), scale[part]
            product = given * precise
            to_weight += product.T @ root[:, 0]
            slope = (product @ precise_weight)[:, None].mul_(root**3 / x.shape[1])
            to_x[part] = (given * precise_weight).mul_(root).addcmul_(precise, slope, value=-1)
        return to_x.unflatten(0, states.shape[:-1]), to_weight.to(weight.dtype), None


def _norm_of(states: Tensor) -> Any:
    """The autograd node of our norm that produced the states; None where none of ours did."""
    return states.grad_fn if isinstance(states.grad_fn, _RmsNorm._backward_cls) else None


def _given(kept: Tensor | None, norm: Any, part: slice = slice(None)) -> Tensor:
    """The input's rows [n, d]: kept, or recomputed to the same bits from the tensors that its norm has saved.

    The norm's own backward pass comes later, so its saved tensors are still there.
    """
    if kept is not None:
        return kept[part]
    states, weight, scale = norm.saved_tensors
    precise = states.flatten(0, -2)[part].to(scale.dtype)
    return (precise * scale[part]).to(states.dtype).mul_(weight)
