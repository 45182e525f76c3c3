"""How large a difference between two policies is, beside whether it is one."""

from __future__ import annotations

import math
from dataclasses import dataclass

from grandrounds.evaluation.compare import Pair
from grandrounds.evaluation.statistics import Interval, wilson


@dataclass(frozen=True)
class Effect:
    """Sizes of one difference.

    odds_ratio: of the discordant cases, gained / lost (the matched-pairs odds ratio); infinite where none was lost,
        None where the policies never differed. odds_interval: Wilson's interval of gained / (gained + lost), as odds.
    cohens_h: 2 asin sqrt(p after) - 2 asin sqrt(p before), Cohen 1988, chapter 6. 0.2 is called small, 0.5 medium, 0.8
        large.
    """

    odds_ratio: float | None
    odds_interval: Interval | None
    cohens_h: float


def effect_of(pair: Pair, accuracy_before: float) -> Effect:
    """The sizes of a pair's difference. accuracy_before: of the first policy, on the same cases."""
    differing = pair.gained + pair.lost
    after = min(1.0, max(0.0, accuracy_before + pair.difference))
    h = 2 * math.asin(math.sqrt(after)) - 2 * math.asin(math.sqrt(accuracy_before))
    if not differing:
        return Effect(None, None, h)
    low, high = wilson(pair.gained, differing)
    return Effect(_odds(pair.gained / differing), (_odds(low), _odds(high)), h)


def _odds(share: float) -> float:
    return math.inf if share >= 1 else share / (1 - share)
