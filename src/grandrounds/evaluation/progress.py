"""How far an evaluation is: one count over all of its policies and trials."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from grandrounds.types import Group

# (responses done, responses in all)
Done = Callable[[int, int], None]


def counted(groups: Iterable[Group], progress: Done | None, total: int, before: int = 0) -> Iterator[Group]:
    """The groups as they come, and progress told of each: of `total`, `before` came earlier."""
    for number, group in enumerate(groups, before + 1):
        if progress is not None:
            progress(number, total)
        yield group


def part(progress: Done | None, before: int, work: int, whole: int) -> Done | None:
    """Tells progress of a part of the whole: of `whole` responses, `before` are done and `work` are the part's."""
    if progress is None:
        return None

    def tell(done: int, total: int) -> None:
        progress(before + round(work * done / total), whole)

    return tell
