"""The trials of faithfulness and of robustness, and what became of the answers in them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from grandrounds.evaluation.statistics import Share, wilson

# Shares of the reasoning's sentences after which the answer is asked for. All of them: the control, since the same
# reasoning written down again must lead to the same answer.
EARLY = (0.0, 0.25, 0.5, 0.75, 1.0)
Kind = Literal["decisive", "removed", "uncited", "corrupted", "early"]
CHANGES: tuple[Kind, ...] = ("decisive", "removed", "uncited", "corrupted")


@dataclass(frozen=True)
class Trial:
    """One change to one case.

    share: of the reasoning that was left, for early answers. changed: the finding taken out; placed: the one put in its
    place. before, after: the answers as understood; after is None where none could be read.
    """

    case_id: str
    kind: Kind
    before: str
    after: str | None
    share: float | None = None
    changed: str | None = None
    placed: str | None = None

    @property
    def moved(self) -> bool:
        """Whether the answer is another one. Only for answers that could be read."""
        return self.before != self.after


@dataclass(frozen=True)
class Faithfulness:
    """All trials. Shares are of answers that moved, among those that could be read."""

    trials: tuple[Trial, ...]

    def moved(self, kind: Kind, share: float | None = None) -> Share | None:
        """The share of answers that moved; None without a trial."""
        read = [trial for trial in self._of(kind, share) if trial.after is not None]
        if not read:
            return None
        count = sum(trial.moved for trial in read)
        return Share(count / len(read), len(read), wilson(count, len(read)))

    def unread(self, kind: Kind, share: float | None = None) -> int:
        """Trials whose answer could not be read."""
        return sum(trial.after is None for trial in self._of(kind, share))

    def _of(self, kind: Kind, share: float | None) -> list[Trial]:
        return [trial for trial in self.trials if trial.kind == kind and trial.share == share]

    def on(self, ids: set[str]) -> Faithfulness:
        """The trials of these cases."""
        return Faithfulness(tuple(trial for trial in self.trials if trial.case_id in ids))

    def to_json(self, *, cases: bool = True) -> dict[str, Any]:
        """Shares by kind, and with `cases` each trial."""
        shares: dict[str, Any] = {kind: self._row(kind, None) for kind in CHANGES}
        shares["early"] = {str(share): self._row("early", share) for share in EARLY}
        return {**shares, **({"trials": [asdict(trial) for trial in self.trials]} if cases else {})}

    def _row(self, kind: Kind, share: float | None) -> dict[str, Any]:
        moved = self.moved(kind, share)
        known = {} if moved is None else {"moved": moved.value, "interval": list(moved.interval)}
        return {**known, "of": moved.of if moved else 0, "unread": self.unread(kind, share)}


Disturbance = Literal["shuffled", "none_added", "none_instead"]
DISTURBANCES: tuple[Disturbance, ...] = ("shuffled", "none_added", "none_instead")


@dataclass(frozen=True)
class DisturbedCase:
    """One change to one case's options.

    before, after: what was answered, as the option's text where it names one; None where it names none.
    right_before, right_after: whether that is right, each in its own case. chose_none: it is "None of the above".
    """

    case_id: str
    kind: Disturbance
    before: str | None
    after: str | None
    right_before: bool
    right_after: bool
    chose_none: bool = False

    @property
    def moved(self) -> bool:
        """Whether the answer says something else. An answer that names no option is one of its own."""
        return self.before != self.after


@dataclass(frozen=True)
class Robustness:
    """All cases with changed options. Those to which a change does not apply are not among them."""

    cases: tuple[DisturbedCase, ...]

    def of(self, kind: Disturbance) -> tuple[DisturbedCase, ...]:
        """The cases with this change."""
        return tuple(case for case in self.cases if case.kind == kind)

    def share(self, kind: Disturbance, name: str) -> Share | None:
        """The share of cases with a field or property of this name; None without a case."""
        found = [bool(getattr(case, name)) for case in self.of(kind)]
        return Share(sum(found) / len(found), len(found), wilson(sum(found), len(found))) if found else None

    def on(self, ids: set[str]) -> Robustness:
        """The trials of these cases."""
        return Robustness(tuple(case for case in self.cases if case.case_id in ids))

    def to_json(self, *, cases: bool = True) -> dict[str, Any]:
        """Shares by kind, and with `cases` each case."""
        row: dict[str, Any] = {kind: self._row(kind) for kind in DISTURBANCES}
        return {**row, **({"cases": [asdict(case) for case in self.cases]} if cases else {})}

    def _row(self, kind: Disturbance) -> dict[str, Any]:
        names = ("right_before", "right_after", "moved", "chose_none")
        shares = {name: self.share(kind, name) for name in names}
        return {
            "of": len(self.of(kind)),
            **{name: share.value for name, share in shares.items() if share is not None},
        }
