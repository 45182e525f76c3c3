"""Processes that learn together. Each accumulates its share of a step's packs, and all make the same step.

torch.distributed knows their number. Without a process group there is one process, and nothing is sent.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn

Item = TypeVar("Item")


def count() -> int:
    """The number of processes that learn together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def share(items: Sequence[Item]) -> Sequence[Item]:
    """This process's share of items that all processes hold."""
    return items if count() == 1 else items[dist.get_rank() :: count()]


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Sum each parameter's gradient over the processes, in place. A process that had no pack adds nothing."""
    if count() == 1:
        return
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        dist.all_reduce(parameter.grad)


def concatenate(values: torch.Tensor) -> torch.Tensor:
    """The numbers [n] of all processes, one after another in the order of their ranks; n may differ."""
    if count() == 1:
        return values
    sizes = [torch.zeros(1, dtype=torch.int64, device=values.device) for _ in range(count())]
    dist.all_gather(sizes, torch.tensor([len(values)], device=values.device))
    padded = values.new_zeros(max(int(size) for size in sizes))
    padded[: len(values)] = values
    parts = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(parts, padded)
    return torch.cat([part[: int(size)] for part, size in zip(parts, sizes, strict=True)])


def gather(value: dict[str, Any], device: torch.device) -> list[dict[str, Any]]:
    """The JSON-able values of all processes, in the order of their ranks."""
    if count() == 1:
        return [value]
    text = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8).to(device)
    sizes = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(count())]
    dist.all_gather(sizes, torch.tensor([len(text)], device=device))
    longest = max(int(size) for size in sizes)
    padded = torch.zeros(longest, dtype=torch.uint8, device=device)
    padded[: len(text)] = text
    texts = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(texts, padded)
    return [json.loads(bytes(text[: int(size)].tolist())) for text, size in zip(texts, sizes, strict=True)]
