"""A sampler that says how far it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from grandrounds.sampling.sampler import Key, Sampler, SamplingSettings
from grandrounds.types import Group, Prompt


@dataclass(frozen=True)
class TellingSampler:
    """Samples as `sampler` does. told: is given what is done now, in words."""

    sampler: Sampler
    told: Callable[[str], None]

    def publish(self, weights: Any, version: int) -> None:
        """See `Sampler`."""
        self.sampler.publish(weights, version)

    def sample(
        self, prompts: Sequence[Prompt], n: int, settings: SamplingSettings, key: Key
    ) -> Iterator[Group]:
        """See `Sampler`. A completion counts once all those of its group are there."""
        whole = len(prompts) * n
        self.told(f"sampling: 0 of {whole:,} completions")
        for done, group in enumerate(self.sampler.sample(prompts, n, settings, key), 1):
            self.told(f"sampling: {done * n:,} of {whole:,} completions")
            yield group
        self.told("rewards, then learning from the completions")
