"""Muon: the momentum of a matrix, orthogonalised (Jordan et al. 2024, kellerjordan.github.io/posts/muon).

torch.optim.Muon orthogonalises in bfloat16 on every device, and many processors emulate bfloat16. On two AVX2 cores a
step on the clinic's matrices takes 0.94 s that way and 0.03 s in float32.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

# Coefficients of the quintic Newton-Schulz iteration, from Jordan et al.
A, B, C = 3.4445, -4.7750, 2.0315
ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised, with decoupled weight decay.

    The update is scaled by 0.2 √max(rows, columns), so that its root mean square equals that of AdamW's update
    (arXiv:2502.16982, eq. 4). The state of each matrix is `momentum_buffer`, of the matrix's shape.
    """

    def __init__(
        self, matrices: Iterable[nn.Parameter], *, weight_decay: float = 0.0, momentum: float = 0.95
    ) -> None:
        super().__init__(matrices, {"lr": 1e-3, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is not None:
                    self._step(matrix, group["lr"], group["weight_decay"], group["momentum"])

    def _step(self, matrix: nn.Parameter, lr: float, weight_decay: float, momentum: float) -> None:
        gradient, state = matrix.grad, self.state[matrix]
        assert gradient is not None
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(matrix)
        average = state["momentum_buffer"].lerp_(gradient, 1 - momentum)
        update = orthogonalise(gradient.lerp(average, momentum))
        matrix.mul_(1 - lr * weight_decay)
        matrix.add_(update.to(matrix.dtype), alpha=-0.2 * lr * max(matrix.shape) ** 0.5)


def orthogonalise(
    matrix: Tensor,  # [m, n]
) -> Tensor:  # [m, n], bfloat16 on a GPU and float32 elsewhere
    """Approximately U Vᵀ of the matrix's singular value decomposition U S Vᵀ.

    Five iterations bring the singular values to between 0.7 and 1.2, which is close enough to 1. A processor always
    computes in the same precision, so that a resumed run equals an uninterrupted one.
    """
    x = matrix.to(torch.bfloat16 if matrix.device.type == "cuda" else torch.float32)
    if tall := x.shape[0] > x.shape[1]:
        x = x.T
    x = x / x.norm().clamp(min=1e-7)  # so that no singular value exceeds 1
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=B, alpha=C), x, beta=A)
    return x.T if tall else x
