"""Signs that what is learned does not carry over: to held-out cases, or from the reward to accuracy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from grandrounds.shares import percent
from grandrounds.training.monitor.history import CLEARLY, WINDOW
from grandrounds.training.monitor.readings import ACCURACY, REWARD, RIGHT_PAYS
from grandrounds.training.monitor.sign import Finding, Sign, Watched, changed
from grandrounds.training.progress import MetricsRow

# Standard errors by which training accuracy must have gained more than held-out accuracy: one-sided p = 0.01.
GAINED_MORE = 2.33
# Standard errors that held-out accuracy must have lost since its best evaluation, which was in part luck: p = 0.001.
LOST = 3.1
# Points of training accuracy, and standard errors: the best of a hundred earlier windows was in part luck, so that the
# difference to it must be as clear as a hundredth of the usual p.
LESS_ACCURACY, CLEARLY_OF_MANY = 0.05, 5.0


def wrong_pays(watched: Watched) -> Finding | None:
    """Of one case's completions the right ones have clearly less reward than the wrong ones."""
    gain = watched.history.newest(RIGHT_PAYS)
    if gain is None or gain.mean > -CLEARLY * gain.error or not gain.mean:
        return None
    return Finding(
        "wrong_pays",
        f"Right completions have {-gain.mean:.2g} less reward than wrong ones to the same case",
        f"Most likely {_against(watched)} has the wrong sign, or gold answers are wrong",
        "Look at the sign of its weight and of what it returns; `grandrounds rewards test` shows what each component "
        "gives right and wrong responses",
        {"right_pays": gain.mean, "error": gain.error},
    )


def _against(watched: Watched) -> str:
    """The component that takes most from right completions."""
    gains = {
        name: weight * gain
        for name, weight in watched.weights.items()
        if (gain := _right_gain(watched, name)) is not None
    }
    worst = min(gains, key=lambda name: gains[name], default="")
    return f"`{worst}`" if worst and gains[worst] < 0 else "a component of the reward"


def _right_gain(watched: Watched, name: str) -> float | None:
    """A component's mean for the newest round's right completions, less that for its wrong ones."""
    means = _means_by_verdict(watched, name)
    right, wrong = means[True], means[False]
    return None if right is None or wrong is None else right - wrong


def _means_by_verdict(watched: Watched, name: str) -> dict[bool, float | None]:
    """A component's mean over the newest round's right completions, and over its wrong ones; None without any."""
    means: dict[bool, float | None] = {}
    for right in (True, False):
        known = [
            score
            for group in watched.groups
            for sample, score in zip(group.samples, group.scores[name], strict=True)
            if sample.verdict.correct is right and score is not None
        ]
        means[right] = float(np.mean(known)) if known else None
    return means


def accuracy_lost(watched: Watched) -> Finding | None:
    """Training accuracy is clearly below what it was."""
    change = watched.history.since_best(
        ACCURACY, lambda change: change.difference <= -LESS_ACCURACY and change.errors <= -CLEARLY_OF_MANY
    )
    if change is None:
        return None
    return Finding(
        "accuracy_lost",
        f"Training accuracy has fallen from {percent(change.before.mean)} to {percent(change.now.mean)}",
        f"Most likely the updates are too large (grpo.learning_rate {watched.recipe.grpo.learning_rate:g}), where no "
        "other sign names a cause",
        "Lower grpo.learning_rate or grpo.iterations, or raise grpo.cases_per_round; then resume from an earlier "
        "checkpoint",
        changed(change),
    )


def reward_alone(watched: Watched) -> Finding | None:
    """The reward rises clearly; training accuracy does not, nor held-out accuracy at the last two evaluations."""
    rows, history = watched.history.evaluations, watched.history
    reward = history.since_start(REWARD, lambda change: change.clear(1e-9))
    accuracy = history.since_start(ACCURACY, lambda change: True)
    if len(rows) < 3 or reward is None or accuracy is None or accuracy.errors > 1:
        return None
    held = [paired_gain(rows[0]["right"], row["right"])[0] for row in rows[-2:]]
    if max(held) > 0:
        return None
    return Finding(
        "reward_alone",
        f"The reward rises ({reward.before.mean:.3g} to {reward.now.mean:.3g}), accuracy does not: in training "
        f"{percent(accuracy.before.mean)} to {percent(accuracy.now.mean)}, held-out {percent(rows[0]['accuracy'])} to "
        f"{percent(rows[-1]['accuracy'])}",
        f"Most likely {_rising(watched)} can be earned without being right",
        "Read the best-rewarded wrong completions in rollouts/; make that component a gate of accuracy, or lower its "
        "weight",
        {"reward_before": reward.before.mean, "reward_now": reward.now.mean, "held_out_gain": held[-1]},
    )


def _rising(watched: Watched) -> str:
    """The component whose weighted mean has risen most, of those that wrong completions earn."""
    rows = watched.history.metrics
    gains = {
        name: weight * (after - before)
        for name, weight in watched.weights.items()
        if _means_by_verdict(watched, name)[False]
        and (before := _mean(rows[:WINDOW], name)) is not None
        and (after := _mean(rows[-WINDOW:], name)) is not None
    }
    return f"`{max(gains, key=lambda name: gains[name])}`" if gains else "a component of the reward"


def _mean(rows: Sequence[MetricsRow], name: str) -> float | None:
    known = [row[f"rewards/{name}/mean"] for row in rows if row.get(f"rewards/{name}/mean") is not None]
    return float(np.mean(known)) if known else None


def not_general(watched: Watched) -> Finding | None:
    """Training accuracy gains clearly more than held-out accuracy does."""
    rounds = [row for row in watched.history.metrics if row.get("round") and row.get("accuracy") is not None]
    rows = watched.history.evaluations
    if len(rows) < 2 or len(rounds) < 2 * WINDOW:
        return None
    first, last = rows[0], rows[-1]
    cases = watched.recipe.grpo.cases_per_round * WINDOW
    before, now = (
        float(np.mean([row["accuracy"] for row in part])) for part in (rounds[:WINDOW], rounds[-WINDOW:])
    )
    trained, error = _gain(before, now, cases)
    held, held_error = paired_gain(first["right"], last["right"])
    if trained <= 0 or trained - held < GAINED_MORE * math.hypot(error, held_error):
        return None
    balanced = watched.recipe.cases.balance == "label"
    return Finding(
        "not_general",
        f"Training accuracy rises ({percent(before)} to {percent(now)}), held-out accuracy "
        f"{'falls' if held < 0 else 'does not follow'} ({percent(first['accuracy'])} to {percent(last['accuracy'])}, "
        f"{last['cases']:,} cases)",
        "The policy learns something that holds for the training cases alone, such as which answers are frequent there",
        f"`grandrounds cases` shows such shortcuts{'' if balanced else '; cases.balance: label closes this one'}",
        {"training_gain": trained, "held_out_gain": held},
    )


def held_out_lost(watched: Watched) -> Finding | None:
    """Held-out accuracy is clearly below what it was."""
    rows = watched.history.evaluations
    if len(rows) < 2:
        return None
    best, last = max(rows, key=lambda row: row["accuracy"]), rows[-1]
    held, error = paired_gain(best["right"], last["right"])
    if held > -LOST * error or held == 0:
        return None
    return Finding(
        "held_out_lost",
        f"Held-out accuracy has fallen from {percent(best['accuracy'])} after round {best['round']} to "
        f"{percent(last['accuracy'])} ({last['cases']:,} cases)",
        "Most likely the updates are too large for what a round can teach",
        f"Lower grpo.learning_rate, or raise grpo.cases_per_round. {watched.best}".rstrip(),
        {"held_out_gain": held},
    )


def _gain(before: float, now: float, cases: int) -> tuple[float, float]:
    """Difference of two accuracies on different cases, and its standard error."""
    return now - before, math.sqrt((before * (1 - before) + now * (1 - now)) / cases)


def paired_gain(before: Mapping[str, float], now: Mapping[str, float]) -> tuple[float, float]:
    """Mean difference on the same cases, and its standard error."""
    differences = np.array([now[case] - before[case] for case in before if case in now])
    if len(differences) < 2:
        return 0.0, math.inf
    return float(differences.mean()), float(differences.std(ddof=1) / math.sqrt(len(differences)))


SIGNS = (
    Sign("wrong_pays", wrong_pays),
    Sign("accuracy_lost", accuracy_lost),
    Sign("not_general", not_general, evaluated=True),
    Sign("reward_alone", reward_alone, evaluated=True),
    Sign("held_out_lost", held_out_lost, evaluated=True),
)
