"""What is measured: a model's shape, a round's prompts and groups, and how long each completion is.

Nothing here knows who computes it. Prompts, lengths and rewards are pure functions of the workload, so that every side
gets the same ones; the model has random weights, because time and memory do not depend on what it has learnt.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

# Token ids below this one are special (end, padding, unknown); prompts hold none of them.
FIRST_WORD = 3
END, PAD, UNKNOWN = 0, 1, 2
FULL, LORA, NO_ADAPTER = "full", "lora", "none"


@dataclass(frozen=True)
class Shape:
    """A causal language model; family: "qwen2", or "scratch" as a recipe's scratch model is.

    tied: whether the output layer has the embeddings' weights.
    """

    name: str
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    vocabulary: int
    family: str = "qwen2"
    tied: bool = True

    @property
    def head_width(self) -> int:
        """Numbers per attention head."""
        return self.hidden // self.heads


@dataclass(frozen=True)
class Workload:
    """One round of GRPO: `prompts` prompts of `prompt_tokens` tokens, a group of `group` completions of each.

    mean_new: None, or the mean of geometric completion lengths; without it every completion has `max_new` tokens.
    warmup, steps: optimizer steps before the clock and under it, in each process.
    """

    name: str
    shape: Shape
    adapter: str  # FULL or LORA; NO_ADAPTER where nothing is trained
    precision: str  # float32 or bfloat16
    prompts: int
    group: int
    prompt_tokens: int
    max_new: int
    mean_new: int | None = None
    lora_rank: int = 16
    warmup: int = 1
    steps: int = 3
    quantize: str = "none"  # or 4bit, of our side
    recompute: str = "auto"  # of our side

    @property
    def completions(self) -> int:
        """Completions of the whole round."""
        return self.prompts * self.group

    def describe(self) -> str:
        """One line: what, how much."""
        lengths = (
            f"{self.max_new}" if self.mean_new is None else f"up to {self.max_new}, mean {self.mean_new}"
        )
        kinds = {FULL: "full fine-tuning", LORA: f"LoRA rank {self.lora_rank}", NO_ADAPTER: "sampling alone"}
        packed = "" if self.quantize == "none" else ", 4-bit weights"
        return (
            f"{self.shape.name}{packed}, {kinds[self.adapter]}, {self.precision}; "
            f"{self.prompts} prompts × G {self.group}, "
            f"{self.prompt_tokens} + {lengths} tokens"
        )

    def to_json(self) -> dict[str, Any]:
        """For the process that computes it."""
        return asdict(self)

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Workload:
        """What `to_json` gave."""
        return Workload(**{**values, "shape": Shape(**values["shape"])})


TINY = Shape("0.4M", layers=2, hidden=128, intermediate=256, heads=2, kv_heads=1, vocabulary=512)
SMALL = Shape("6M", layers=6, hidden=256, intermediate=1024, heads=4, kv_heads=2, vocabulary=4096)
HALF_BILLION = Shape(
    "Qwen2-0.5B", layers=24, hidden=896, intermediate=4864, heads=14, kv_heads=2, vocabulary=151_936
)
SCRATCH = Shape(
    "scratch", layers=4, hidden=192, intermediate=768, heads=6, kv_heads=6, vocabulary=2048, family="scratch"
)
ONE_AND_A_HALF = Shape(
    "Qwen2.5-1.5B", layers=28, hidden=1536, intermediate=8960, heads=12, kv_heads=2, vocabulary=151_936
)
SEVEN = Shape(
    "Qwen2.5-7B",
    layers=28,
    hidden=3584,
    intermediate=18_944,
    heads=28,
    kv_heads=4,
    vocabulary=152_064,
    tied=False,
)
SMOL = Shape("SmolLM2-135M", layers=30, hidden=576, intermediate=1536, heads=9, kv_heads=3, vocabulary=49_152)

_A = Workload("A", SMALL, FULL, "float32", prompts=8, group=8, prompt_tokens=192, max_new=128)
_B32 = Workload(
    "B32",
    HALF_BILLION,
    LORA,
    "float32",
    prompts=2,
    group=8,
    prompt_tokens=256,
    max_new=64,
    steps=1,
)
_CLINIC = Workload(
    "clinic",
    SCRATCH,
    FULL,
    "float32",
    prompts=8,
    group=8,
    prompt_tokens=96,
    max_new=64,
    mean_new=40,
    steps=5,
)
_SMOL = Workload(
    "smol32",
    SMOL,
    LORA,
    "float32",
    prompts=2,
    group=4,
    prompt_tokens=128,
    max_new=32,
    steps=2,
)
# Rounds of a size that fits one GPU.
_G1B = Workload(
    "G1.5B",
    ONE_AND_A_HALF,
    LORA,
    "bfloat16",
    prompts=8,
    group=8,
    prompt_tokens=512,
    max_new=512,
    mean_new=200,
    steps=2,
)
# In 4 bits, with 16 GB.
_G7B = replace(
    _G1B,
    name="G7B",
    shape=SEVEN,
    prompts=1,
    prompt_tokens=1024,
    mean_new=None,
    steps=1,
    quantize="4bit",
    recompute="layers",
)
_SMOKE = Workload("smoke", TINY, FULL, "float32", prompts=2, group=4, prompt_tokens=24, max_new=16, steps=2)

WORKLOADS = {
    workload.name: workload
    for workload in (
        _A,
        _B32,
        replace(_B32, name="B16", precision="bfloat16"),
        replace(_B32, name="Bfull", adapter=FULL),
        replace(_B32, name="C", prompts=1, prompt_tokens=1024, max_new=128),
        replace(_A, name="D", prompt_tokens=64, max_new=512, steps=2),
        replace(_A, name="E", max_new=512, mean_new=100),
        _CLINIC,
        _G1B,
        _G7B,
        _SMOL,
        replace(_SMOL, name="smol16", precision="bfloat16"),
        _SMOKE,
        replace(_SMOKE, name="smoke-lora", adapter=LORA),
        replace(_SMOKE, name="smoke-bf16", adapter=LORA, precision="bfloat16"),
        replace(_SMOKE, name="smoke-ragged", max_new=48, mean_new=12),
    )
}


def prompt_tokens(workload: Workload) -> np.ndarray:
    """Random words, int64 [prompts, prompt_tokens]."""
    generator = np.random.Generator(np.random.Philox(key=11))
    size = (workload.prompts, workload.prompt_tokens)
    return generator.integers(FIRST_WORD, workload.shape.vocabulary, size)


def lengths(workload: Workload) -> np.ndarray:
    """Where each completion ends, its end token counted, int64 [prompts, group].

    Geometric lengths are the distribution's own quantiles in an order that a hash decides: a round's mean and longest
    completion are typical ones, not one draw's.
    """
    size = (workload.prompts, workload.group)
    if workload.mean_new is None:
        return np.full(size, workload.max_new, np.int64)
    share = (np.arange(workload.completions) + 0.5) / workload.completions
    quantiles = np.ceil(np.log1p(-share) / math.log1p(-1 / workload.mean_new))
    order = np.argsort([_hash("length", row) for row in range(workload.completions)])
    return np.clip(quantiles, 1, workload.max_new).astype(np.int64)[order].reshape(size)


def given_completions(workload: Workload) -> np.ndarray:
    """Completions to impose where both sides are to learn from the same tokens, int64 [N·G, max_new], padded."""
    generator = np.random.Generator(np.random.Philox(key=13))
    ends = lengths(workload).reshape(-1, 1)
    steps = np.arange(workload.max_new)
    tokens = generator.integers(FIRST_WORD, workload.shape.vocabulary, (len(ends), workload.max_new))
    tokens[steps == ends - 1] = END
    tokens[steps >= ends] = PAD
    return tokens


def rewards(workload: Workload) -> np.ndarray:
    """A number in [0, 1) for each completion, float64 [prompts, group]; no two of a group are equal.

    They depend on the completion's place alone: every side learns from the same advantages, and no advantage is 0, so
    that nothing may be skipped.
    """
    values = [_hash("reward", row) for row in range(workload.completions)]
    return np.array(values).reshape(workload.prompts, workload.group)


def _hash(kind: str, row: int) -> float:
    digest = hashlib.blake2b(f"{kind} {row}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") / 2**64
