"""A layer's norms, feed-forward block and linear maps, each one step of autograd: less is kept, less passes memory.

What transformers and PEFT compute op by op keeps every op's result for the backward pass. Here

    RMS norm        keeps its input and a number for each row; the rest is computed again, a part of the rows at a time
    feed-forward    keeps its input, gate and up, or none of these where a norm keeps what its input comes from
    linear, LoRA    y = x Wᵀ + b + s (x Aᵀ) Bᵀ keeps its input or not, as above, and adds its branch into the product's
                    own memory, by the fastest library

which is the same arithmetic in another order of rounding. The modules stay transformers' and PEFT's own: `fuse`
recognises those whose forward pass it knows and puts ours in front, for training through one of our layouts only.
Everything else, and every module that is set up in another way than it knows, computes as before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from grandrounds.policy.attention import current_layout
from grandrounds.policy.products import add_product, linear, summing_type

# Rows whose widest tensor of a part stays in the cache; with fewer, reading the weights anew would take the time.
PART_BYTES = 2 << 20
SMALLEST_PART = 512

_aten = torch.ops.aten
# transformers' activations by the names of their classes: (act, the result's gradient turned into that of the input).
_ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Any]]] = {
    "SiLUActivation": (
        F.silu,
        lambda gradient, x: _aten.silu_backward.grad_input(gradient, x, grad_input=gradient),
    ),
    "GELUActivation": (
        F.gelu,
        lambda gradient, x: _aten.gelu_backward.grad_input(gradient, x, grad_input=gradient),
    ),
    "GELUTanh": (
        lambda x: F.gelu(x, approximate="tanh"),
        lambda gradient, x: _aten.gelu_backward.grad_input(
            gradient, x, approximate="tanh", grad_input=gradient
        ),
    ),
}
# The names that a forward pass looks up tell which arithmetic it is.
_RMS_NORM = ("dtype", "to", "torch", "float32", "pow", "mean", "rsqrt", "variance_epsilon", "weight")
_GATED = ("down_proj", "act_fn", "gate_proj", "up_proj")
_PLAIN = ("fc1", "activation_fn", "fc2")


def fuse(model: nn.Module, *, keep_inner: bool = True) -> None:
    """Put our forward passes in front of the modules' own, wherever one of theirs is recognised.

    keep_inner: whether what norms give out, and gate and up of feed-forward blocks, are kept for the backward pass:
    most of what a layer keeps.
    """
    for module in model.modules():
        ours = _ours(module, keep_inner)
        if ours is not None:
            module.forward = MethodType(ours, module)  # a method, so that a deep copy gets one of its own


def _ours(module: nn.Module, keep_inner: bool) -> Callable[..., Tensor] | None:
    if _is_lora(module) or type(module) is nn.Linear:
        return partial(_linear, keep_inner=keep_inner)
    names = getattr(getattr(type(module).forward, "__code__", None), "co_names", ())
    if names in (_GATED, _PLAIN):
        return partial(_feed_forward, keep_inner=keep_inner)
    return _rms_norm if names == _RMS_NORM else None


def _training() -> bool:
    return torch.is_grad_enabled() and current_layout() is not None


def _rms_norm(self: Any, states: Tensor) -> Tensor:
    if _training():
        return _RmsNorm.apply(states, self.weight, self.variance_epsilon)
    if states.dtype == self.weight.dtype == torch.float32 and not torch.is_grad_enabled():
        return F.rms_norm(states, self.weight.shape, self.weight, self.variance_epsilon)
    return type(self).forward(self, states)


def _feed_forward(self: Any, states: Tensor, *, keep_inner: bool) -> Tensor:
    first = (self.gate_proj, self.up_proj) if hasattr(self, "gate_proj") else (self.fc1,)
    last, activation = (self.down_proj, self.act_fn) if len(first) == 2 else (self.fc2, self.activation_fn)
    matrices = [matrix for linear in (*first, last) if (matrix := _matrix(linear)) is not None]
    known = type(activation).__name__ in _ACTIVATIONS and len(matrices) == len(first) + 1
    if not (known and _training()):
        return type(self).forward(self, states)
    tensors = [tensor for *four, _ in matrices for tensor in four]
    scales = [scale for *_, scale in matrices]
    norm = None if keep_inner else _norm_of(states)
    return _FeedForward.apply(states, norm, keep_inner, type(activation).__name__, scales, *tensors)


def _linear(self: Any, states: Tensor, *further: Any, keep_inner: bool, **named: Any) -> Tensor:
    matrix = _matrix(self)
    if matrix is None or further or named or not _training():
        return type(self).forward(self, states, *further, **named)
    *tensors, scale = matrix
    return _Linear.apply(states, None if keep_inner else _norm_of(states), scale, *tensors)


def _is_lora(module: nn.Module) -> bool:
    kind = type(module)
    return kind.__module__ == "peft.tuners.lora.layer" and kind.__name__ == "Linear"


_Tensors = tuple[Tensor, Tensor | None, Tensor | None, Tensor | None, float]


def _matrix(linear: Any) -> _Tensors | None:
    """(W, b, A, B, s) of a linear layer, without A and B where no adapter is active; None for any other layer."""
    if type(linear) is nn.Linear:
        return linear.weight, linear.bias, None, None, 0.0
    if not _is_lora(linear) or type(linear.base_layer) is not nn.Linear or linear.merged:
        return None
    base = linear.base_layer
    if linear.disable_adapters:
        return base.weight, base.bias, None, None, 0.0
    names = [name for name in linear.active_adapters if name in linear.lora_A]
    if len(names) != 1 or names[0] in linear.lora_variant:
        return None
    name = names[0]
    a, b = linear.lora_A[name], linear.lora_B[name]
    if type(linear.lora_dropout[name]) is not nn.Identity or b.bias is not None:
        return None
    return base.weight, base.bias, a.weight, b.weight, linear.scaling[name]


class _Matrix:
    """y = x Wᵀ + b + s (x Aᵀ) Bᵀ of rows x [n, in], and the gradients, summed over parts of the rows.

    A and B are multiplied in W's precision and kept in their own, as it is with autocast.
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
        """y [n, out], and x Aᵀ [n, r], which the backward pass takes back."""
        y = linear(x, self.weight, self.bias)
        if self.a is None:
            return y, None
        low = x @ self.a.T
        add_product(y, low, self.b.T, self.scale)
        return y, low

    def back(self, x: Tensor, low: Tensor | None, gradient: Tensor) -> Tensor:
        """x's gradient [n, in] from y's; adds to the sums of those of W, b, A and B."""
        to_x = linear(gradient, self.weight.T)
        if self.wanted[0]:
            if (total := self._sums[0]) is None:
                self._add(0, gradient.T @ x)
            else:  # in its own memory
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
        """Of W, b, A and B."""
        for tensor, total in zip(self._tensors, self._sums, strict=True):
            yield None if total is None or tensor is None else total.to(tensor.dtype)

    def _add(self, place: int, gradient: Tensor) -> None:
        """Sums are float32 at least: bfloat16 sums over many parts would lose the small terms."""
        total, precise = self._sums[place], gradient.to(summing_type(gradient))
        self._sums[place] = precise if total is None else total.add_(precise)


def _parts(rows: int, width: int) -> Iterator[slice]:
    """Equal parts, since a short one at the end would be multiplied slowly."""
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
    """act(x Gᵀ) Dᵀ, or (act(x Gᵀ) · x Uᵀ) Dᵀ, with biases and LoRA. keep: gate and up, for the backward pass."""

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
        act, act_backward_ = _ACTIVATIONS[ctx.activation]
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
            # In memory that is there: fresh memory takes longer than the arithmetic.
            to_gate = torch.mul(to_product, up[0], out=product) if up else to_product
            act_backward_(to_gate, gate)
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
    """w · x / √(mean x² + ε), the mean in float32 at least."""

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
    """The step of autograd that normalised the states; None where none of ours did."""
    return states.grad_fn if isinstance(states.grad_fn, _RmsNorm._backward_cls) else None


def _given(kept: Tensor | None, norm: Any, part: slice = slice(None)) -> Tensor:
    """Rows [n, d]: kept, or the same bits from what their norm keeps until its own backward pass, which comes later."""
    if kept is not None:
        return kept[part]
    states, weight, scale = norm.saved_tensors
    precise = states.flatten(0, -2)[part].to(scale.dtype)
    return (precise * scale[part]).to(states.dtype).mul_(weight)
