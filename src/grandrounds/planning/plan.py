"""The plan of a run: what it needs, whether it fits, and what would. All sizes are bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from grandrounds.planning.need import FRAGMENTATION, Measured, Work, need

# The largest group size that is tried, and the fewest completion tokens that may hold an answer.
MOST_COMPLETIONS, SHORTEST = 4096, 16
SUMS = ("resident", "sampling", "update", "least", "peak")


@dataclass(frozen=True)
class Plan:
    """A run's memory and time on a device.

    precision: of the weights. prompts: `tokens` of the longest, number of `cases`, and `origin` of these two. counts:
    the exact parts. context: the model's, in tokens. memory: what the device has for the run; None where the system
    does not tell. seconds: of sampling, update and a round; None where not measured, and then `untimed` says why.
    """

    model: str
    device: str
    precision: str
    prompts: dict[str, Any]
    work: Work
    counts: dict[str, int]
    measured: Measured
    context: int
    memory: int | None
    seconds: dict[str, float] | None = None
    untimed: str = ""

    @property
    def need(self) -> dict[str, int]:
        """Every part and sum, see `need.need`."""
        return self.needed(self.work)

    def needed(self, work: Work) -> dict[str, int]:
        """The same for a round of other sizes."""
        return need(self.counts, self.measured, work, fragmentation=self._fragmentation)

    @property
    def _fragmentation(self) -> float:
        if self.device != "cpu":
            return 0.0
        precision = "bfloat16" if self.precision == "bfloat16" else "float32"
        return FRAGMENTATION["lora" if self.counts["adapters"] else "full", precision]

    @property
    def fits(self) -> bool | None:
        """Whether the run fits; None where the device's memory is not known."""
        return None if self.memory is None else self.holds()

    def holds(self, **changes: int) -> bool:
        """Whether the round with these changes fits; False where the device's memory is not known."""
        work = replace(self.work, **changes)  # type: ignore[arg-type]  # one of its fields is no number
        return self.memory is not None and self.needed(work)["peak"] <= self.memory

    @property
    def largest_group_size(self) -> int | None:
        """The largest `grpo.group_size` that fits, all else unchanged; None where none fits or is known to."""
        return largest(lambda size: self.holds(group_size=size), 2, MOST_COMPLETIONS)

    @property
    def longest_completion(self) -> int | None:
        """The largest `grpo.max_new_tokens` that fits, all else unchanged; None as above."""
        most = self.context - self.work.prompt_tokens
        return largest(lambda tokens: self.holds(max_new_tokens=tokens), 1, most)

    @property
    def smallest_change(self) -> dict[str, int]:
        """Recipe keys to lower, with values that make the run fit; empty where it fits or none of these helps."""
        for changes, low, high in self._ways() if self.fits is False else ():
            value = largest(lambda value, changes=changes: self.holds(**changes(value)), low, high - 1)  # type: ignore[misc]
            if value is not None:
                step = 256 if value >= 1024 else 16 if value >= 64 else 1  # round numbers
                return {f"grpo.{key}": new for key, new in changes(max(low, value // step * step)).items()}
        return {}

    def _ways(self) -> Iterator[tuple[Callable[[int], dict[str, int]], int, int]]:
        """(number -> changes, lowest, highest) to try. Smaller packs come first: the result stays the same."""
        work, longest = self.work, self.work.max_new_tokens
        yield (lambda tokens: {"tokens_per_pack": tokens}), work.sequence, work.tokens_per_pack
        yield (lambda tokens: {"max_new_tokens": tokens}), SHORTEST, longest
        yield (lambda size: {"group_size": size}), 2, work.group_size
        prompt = work.prompt_tokens
        yield (
            (lambda tokens: {"max_new_tokens": tokens, "tokens_per_pack": prompt + tokens}),
            SHORTEST,
            longest,
        )

    def to_json(self) -> dict[str, Any]:
        """JSON-able values; memory in bytes, time in seconds. docs/memory.md names each."""
        names = ("model", "device", "precision", "memory", "fits", "prompts")
        further = ("largest_group_size", "longest_completion", "smallest_change", "seconds", "untimed")
        all_parts = self.need
        return {
            **{name: getattr(self, name) for name in names},
            "work": {**asdict(self.work), "pack_tokens": self.work.pack_tokens},
            "parts": {name: size for name, size in all_parts.items() if name not in SUMS},
            **{name: all_parts[name] for name in SUMS},
            **{name: getattr(self, name) for name in further},
        }


def largest(fits: Callable[[int], bool], low: int, high: int) -> int | None:
    """The largest of low … high that fits, where all below it do; None where not even the lowest does."""
    if high < low or not fits(low):
        return None
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low
