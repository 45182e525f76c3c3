"""Rows that are no cases: listed all at once, or left out on request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

from grandrounds.errors import CaseError

# Of many bad rows so many are listed.
LISTED = 20
SKIP = "Or leave them out: --set cases.bad_rows=skip."


def settle(
    errors: Sequence[CaseError], rows: int, source: str, wanted: Literal["error", "skip"]
) -> list[str]:
    """What was left out, a line for each bad row. errors: of bad rows, among so many `rows` of a source.

    Raises CaseError, for all bad rows together, unless they are to be left out or no row would remain.
    """
    if not errors:
        return []
    if wanted == "skip" and len(errors) < rows:
        return [_line(error, hint=False) for error in errors]
    # The same mistake in every row is a mistake about the file.
    if len(errors) == rows and len({(error.what, error.hint) for error in errors}) == 1:
        raise errors[0]
    if len(errors) == 1:
        only = errors[0]
        raise CaseError(only.what, where=only.where, hint=f"{only.hint} {SKIP.replace('them', 'it')}".strip())
    shown = [_line(error, hint=True) for error in errors[:LISTED]]
    if len(errors) > LISTED:
        shown.append(f"and {len(errors) - LISTED:,} more: {_summary(errors[LISTED:])}")
    raise CaseError(
        f"{len(errors):,} of {rows:,} rows cannot be used:\n  " + "\n  ".join(shown),
        where=source,
        hint=f"Correct them. {SKIP}" if len(errors) < rows else "No row would remain.",
    )


def _line(error: CaseError, *, hint: bool) -> str:
    return f"{error.where}: {error.what}" + (f". {error.hint}" if hint and error.hint else "")


def _summary(errors: Sequence[CaseError]) -> str:
    """The commonest of further mistakes, with their numbers."""
    counts = Counter(error.what for error in errors)
    named = [f"{what} ({count:,})" for what, count in counts.most_common(3)]
    return ", ".join([*named, "…"] if len(counts) > len(named) else named)
