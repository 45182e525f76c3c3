"""AdamW that computes in float32 and stores less: weights in bfloat16, moments in 8 bits, or both.

bfloat16 has 8 significant bits: a step below 1/512 of a weight rounds to nothing, however often it is repeated. So the
new weight is computed in float32 and rounded up or down at random, with probabilities that make it right on average.
Small steps then add up without a float32 copy of the weights. Moments are float32, since their own steps are as small;
or they are 8 bits with a scale for each block (`moments`), which loses digits but not the order of magnitude.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from grandrounds.algorithm.moments import fresh, parts

# Numbers at a time: a whole embedding's float32 copies would take more than its moments. On a CPU they stay in its
# cache; elsewhere each part costs the start of a dozen kernels.
CPU_PART, PART = 1 << 18, 1 << 22


class RoundingAdamW(torch.optim.Optimizer):
    """AdamW (arXiv:1711.05101) in float32, on float32 or bfloat16 parameters. bfloat16 is rounded stochastically.

    eight_bits: store the moments in 8 bits, except those of small parameters. Step and parameter determine the random
    noise, so that a resumed run draws the same.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        *,
        eight_bits: bool = False,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0})
        self.eight_bits = eight_bits

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        number = 0
        for group in self.param_groups:
            for parameter in group["params"]:
                number += 1
                if parameter.grad is not None:
                    self._move(parameter, parameter.grad, group, number)

    def _move(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any], number: int) -> None:
        state = self.state[parameter]
        if not state:
            state.update(step=torch.tensor(0.0), **fresh(parameter, eight_bits=self.eight_bits))
        state["step"] += 1
        step = int(state["step"])
        generator = torch.Generator(parameter.device).manual_seed(step * 1_000_003 + number)
        size = CPU_PART if parameter.device.type == "cpu" else PART
        whole = (
            parameter.view(-1).split(size),
            gradient.contiguous().view(-1).split(size),
            parts(state, "exp_avg", size),
            parts(state, "exp_avg_sq", size),
        )
        for weight, slope, mean, square in zip(*whole, strict=True):
            means, squares = mean.values(), square.values()
            moved = _adamw(weight.float(), slope.float(), means, squares, step, group)
            mean.keep(means)
            square.keep(squares)
            narrow = weight.dtype == torch.bfloat16
            weight.copy_(round_stochastically(moved, generator) if narrow else moved)


def _adamw(
    weight: Tensor, gradient: Tensor, mean: Tensor, square: Tensor, step: int, group: dict[str, Any]
) -> Tensor:
    """The weight after the step, in float32. The moments are updated in place."""
    (beta1, beta2), rate = group["betas"], group["lr"]
    mean.lerp_(gradient, 1 - beta1)
    square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
    spread = (square / (1 - beta2**step)).sqrt_().add_(group["eps"])
    return weight.mul_(1 - rate * group["weight_decay"]).addcdiv_(
        mean, spread, value=-rate / (1 - beta1**step)
    )


def round_stochastically(values: Tensor, generator: torch.Generator) -> Tensor:
    """Round float32 to bfloat16, up or down at random, so that the result is right on average.

    bfloat16 is float32 without its last 16 bits. Random noise of 16 bits is added, then the last 16 bits are cut off.
    """
    bits = values.view(torch.int32) + _noise(values, generator)
    return bits.bitwise_right_shift_(16).to(torch.int16).view(torch.bfloat16)


def _noise(values: Tensor, generator: torch.Generator) -> Tensor:
    """int32 of the values' shape, each from 0 to 2^16 - 1. Four come from one random number, which takes the time."""
    quarter = torch.empty(-(-values.numel() // 4), dtype=torch.int64, device=values.device)
    quarter.random_(-(1 << 63), None, generator=generator)
    return quarter.view(torch.int16)[: values.numel()].to(torch.int32).bitwise_and_(0xFFFF).view(values.shape)
