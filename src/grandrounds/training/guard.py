"""The guard stops a run that cannot learn, and says why and which recipe keys to change."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median

from grandrounds.errors import RunError
from grandrounds.recipe_guard import GuardRecipe
from grandrounds.shares import percent
from grandrounds.training.progress import MetricsRow

NEARLY_ALL_CUT_OFF = 0.95
NEARLY_NO_SIGNAL = 0.98
# Gradients are clipped to max_grad_norm, so a single large one does no harm. Many in a row, each this many times the
# median, mean that the policy is diverging.
EXPLOSION, LEAST_EXPLOSION, HISTORY = 100.0, 10.0, 50


@dataclass(frozen=True)
class Symptom:
    """A state in which a run cannot learn: how a round shows it, and the message after `patience` rounds in a row."""

    shown: Callable[[MetricsRow], bool]
    what: Callable[[MetricsRow], str]
    hint: Callable[[MetricsRow], str]


def _cut_off(row: MetricsRow) -> bool:
    return row.get("completions/clipped_ratio", 0.0) >= NEARLY_ALL_CUT_OFF


def _never_parsed(row: MetricsRow) -> bool:
    return row.get("format_rate", 1.0) == 0 and row.get("answer_rate", 0.0) == 0


def _no_signal(row: MetricsRow) -> bool:
    return row.get("frac_reward_zero_std", 0.0) >= NEARLY_NO_SIGNAL


def _no_signal_hint(row: MetricsRow) -> str:
    if row.get("accuracy", 0.0) >= 0.95:
        return "The policy solves these cases: use harder ones in cases.source, or fewer rounds."
    return (
        "Raise grpo.group_size or grpo.temperature, add a reward that grades partial success, "
        "or take a longer warm-up (sft.steps) or easier cases."
    )


# In causal order: a truncated completion cannot be parsed, and unparsed completions all get the same reward.
SYMPTOMS = (
    Symptom(
        _cut_off,
        lambda row: (
            f"{percent(row['completions/clipped_ratio'])} of the completions are cut off before they end"
        ),
        lambda row: (
            "Raise grpo.max_new_tokens; or take a longer warm-up (sft.steps), so that it learns to end; "
            "or add the `length` reward."
        ),
    ),
    Symptom(
        _never_parsed,
        lambda row: "no completion has an answer in the required form",
        lambda row: (
            "Take a longer warm-up on demonstrations (sft.steps), a model tuned to follow instructions "
            "(policy.model), or tags it already uses (prompt.reasoning_tag: think)."
        ),
    ),
    Symptom(
        _no_signal,
        lambda row: (
            f"in {percent(row['frac_reward_zero_std'])} of the groups all completions have the same reward "
            f"(mean reward {row.get('reward', math.nan):.3g}), so nothing can be learned from them"
        ),
        _no_signal_hint,
    ),
)


class Guard:
    """Checks each round's metrics row. Raises RunError where the run should stop.

    rows: earlier rows, so that a resumed run decides as the uninterrupted one would.
    """

    def __init__(self, recipe: GuardRecipe, rows: Iterable[MetricsRow] = ()) -> None:
        self.recipe = recipe
        self._streaks: Counter[int] = Counter()
        self._exploding = 0
        self._usual: dict[str, deque[float]] = {key: deque(maxlen=HISTORY) for key in ("grad_norm", "loss")}
        for row in rows:
            self._observe(row)

    def check(self, row: MetricsRow) -> None:
        """Add one round. Raises RunError with a diagnosis; does nothing where the guard is switched off."""
        if not self.recipe.enabled:
            return
        where = f"round {row.get('round', '?')}"
        _refuse_nonfinite(row, where)
        self._observe(row)
        where += f", and the {self.recipe.patience - 1} before it" if self.recipe.patience > 1 else ""
        for number, symptom in enumerate(SYMPTOMS):
            if self._streaks[number] >= self.recipe.patience:
                raise RunError(symptom.what(row), where=where, hint=symptom.hint(row))
        if self._exploding >= self.recipe.patience:
            raise RunError(
                f"the update explodes: gradient norm {row.get('grad_norm', math.nan):.3g}, "
                f"loss {row.get('loss', math.nan):.3g}, {EXPLOSION:.0f} times what they were",
                where=where,
                hint="Lower grpo.learning_rate or grpo.iterations, and resume from an earlier checkpoint.",
            )

    def _observe(self, row: MetricsRow) -> None:
        for number, symptom in enumerate(SYMPTOMS):
            self._streaks[number] = self._streaks[number] + 1 if symptom.shown(row) else 0
        values = {key: abs(row.get(key) or 0.0) for key in self._usual}
        if any(values[key] > self._limit(key) for key in values):
            self._exploding += 1
            return
        self._exploding = 0
        for key, value in values.items():
            if value:
                self._usual[key].append(value)

    def _limit(self, key: str) -> float:
        usual = self._usual[key]
        return max(LEAST_EXPLOSION, EXPLOSION * median(usual)) if usual else math.inf


def _refuse_nonfinite(row: MetricsRow, where: str) -> None:
    for key in ("loss", "grad_norm"):
        value = row.get(key)
        if value is not None and not math.isfinite(value):
            raise RunError(
                f"{key} is {value}",
                where=where,
                hint="Lower grpo.learning_rate, or set policy.precision=float32; then resume.",
            )
