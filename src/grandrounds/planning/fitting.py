"""What still fits into a memory: the largest group, the longest completion, and the setting to lower first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from grandrounds.planning.need import Need, Shape, Work, need

# Beyond this nobody looks.
MOST_COMPLETIONS = 4096
KEYS = {
    "tokens_per_pack": "grpo.tokens_per_pack",
    "new_tokens": "grpo.max_new_tokens",
    "group_size": "grpo.group_size",
}
# Fewer tokens hold no answer worth sampling.
SHORTEST = 16


@dataclass(frozen=True)
class Room:
    """A model on a device of so much memory, in bytes; process: what of it the process takes by itself."""

    shape: Shape
    memory: int
    process: int
    on_cpu: bool = True

    def need(self, work: Work) -> Need:
        """What this work takes."""
        return need(self.shape, work, process=self.process, on_cpu=self.on_cpu)

    def fits(self, work: Work) -> bool:
        """Whether it is there."""
        return self.need(work).peak <= self.memory


def largest(fits: Callable[[int], bool], low: int, high: int) -> int | None:
    """The largest of low … high that fits, where all below it do; None where not even the lowest does."""
    if high < low or not fits(low):
        return None
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def largest_group_size(room: Room, work: Work) -> int | None:
    """All else as it is."""
    return _largest_from(
        work.group_size, lambda size: room.fits(replace(work, group_size=size)), 2, MOST_COMPLETIONS
    )


def longest_completion(room: Room, work: Work) -> int | None:
    """All else as it is; at most what the model's context leaves behind the prompt."""
    most = room.shape.context - work.prompt_tokens
    return _largest_from(work.new_tokens, lambda tokens: room.fits(replace(work, new_tokens=tokens)), 1, most)


def _largest_from(here: int, fits: Callable[[int], bool], low: int, high: int) -> int | None:
    """As `largest`, sought upwards where `here` fits: on a GPU a pack of very short groups takes more again."""
    return largest(fits, here, high) if here <= high and fits(here) else largest(fits, low, min(here, high))


def smallest_change(room: Room, work: Work) -> dict[str, int]:
    """Recipe keys to lower, and the most that fits; empty where neither one key nor two suffice.

    What changes the result least comes first: packs not at all, then shorter completions, then smaller groups.
    """
    for lowered, low, high in _ways(work):
        value = largest(lambda value, lowered=lowered: room.fits(lowered(value)), low, high)  # type: ignore[misc]
        if value is not None:
            changed = lowered(_rounded(value, low))
            return {
                key: getattr(changed, name)
                for name, key in KEYS.items()
                if getattr(changed, name) != getattr(work, name)
            }
    return {}


def _ways(work: Work) -> Iterator[tuple[Callable[[int], Work], int, int]]:
    """A number -> the work with less of something, and the lowest and highest number to try."""
    yield (lambda pack: replace(work, tokens_per_pack=pack)), work.shortest_pack, work.tokens_per_pack - 1
    yield (lambda tokens: replace(work, new_tokens=tokens)), SHORTEST, work.new_tokens - 1
    yield (lambda size: replace(work, group_size=size)), 2, work.group_size - 1
    yield (
        (lambda tokens: replace(work, new_tokens=tokens, tokens_per_pack=work.prompt_tokens + tokens)),
        SHORTEST,
        work.new_tokens - 1,
    )


def _rounded(value: int, low: int) -> int:
    """Down to a number that one would write, but not below the lowest."""
    step = 256 if value >= 1024 else 16 if value >= 64 else 1
    return max(low, value // step * step)
