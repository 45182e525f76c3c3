"""Wrong options as frequent as right ones: quotas are met, and where they cannot be, as far as they can."""

from __future__ import annotations

import numpy as np
import pytest

from grandrounds.domains.medicine.rivals import handicaps

LABELS = 8


def drawn(shares: list[float], count: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    """Scores that prefer frequent labels, and the right labels, as frequent as the shares say."""
    random = np.random.Generator(np.random.Philox(key=3))
    gold = random.choice(LABELS, count, p=shares)
    scores = random.normal(size=(count, LABELS)) + 2 * np.log(shares)
    scores[np.arange(count), gold] += 3
    return scores, gold


def offered(scores: np.ndarray, gold: np.ndarray, added: np.ndarray, pool: int) -> np.ndarray:
    """How often each label is among the `pool` best of the others, [L]."""
    open_to = scores + added
    open_to[np.arange(len(gold)), gold] = -np.inf
    return np.bincount(np.argsort(-open_to, 1)[:, :pool].ravel(), minlength=LABELS)


@pytest.mark.parametrize("pool", [3, 5])
def test_each_label_is_a_rival_as_often_as_its_right_cases_ask_for(pool: int) -> None:
    scores, gold = drawn([0.2, 0.17, 0.15, 0.13, 0.12, 0.1, 0.08, 0.05])
    right = np.bincount(gold, minlength=LABELS)
    before = offered(scores, gold, np.zeros(LABELS), pool) * 3 / pool
    after = offered(scores, gold, handicaps(scores, gold, 3, pool), pool) * 3 / pool
    assert np.abs(before / (3 * right) - 1).max() > 0.3
    reached = 0.03 if pool == 3 else 0.35  # five of seven others leave little to choose
    assert np.abs(after / (3 * right) - 1).max() < reached


def test_a_label_right_in_most_cases_is_offered_in_all_others() -> None:
    scores, gold = drawn([0.6, 0.1, 0.08, 0.07, 0.05, 0.04, 0.03, 0.03])
    seen = offered(scores, gold, handicaps(scores, gold, 3, 3), 3)
    assert seen[0] > 0.99 * (gold != 0).sum()


def test_two_labels_leave_nothing_to_choose() -> None:
    scores, gold = np.zeros((10, 2)), np.array([0] * 7 + [1] * 3)
    assert np.isfinite(handicaps(scores, gold, 3, 3)).all()
