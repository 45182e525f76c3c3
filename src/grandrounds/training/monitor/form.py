"""Signs in the form of completions: answers ahead of the reasoning, text outside of tags, tags repeated, prefilled."""

from __future__ import annotations

from collections.abc import Callable

from grandrounds.training.monitor.readings import AHEAD, OUTSIDE, REPEATED
from grandrounds.training.monitor.sign import Finding, Sign, Watched, changed, course

# A tenth more of all completions: below that a few odd cases could explain it.
MORE = 0.1
# Completions that a component must have scored before "always 0" means anything.
SCORED = 32


def _grows(sign: str, feature: str, shown: str, cause: str, hint: str) -> Callable[[Watched], Finding | None]:
    """A sign that shows where a feature is in clearly more completions than in the run's first rounds."""

    def find(watched: Watched) -> Finding | None:
        change = watched.history.since_start(feature)
        if change is None or not change.clear(MORE):
            return None
        payer = watched.payer(feature)
        paid = f"`{payer.component}` pays for it: {payer.slope:.2g} of reward more" if payer else cause
        return Finding(sign, f"{shown}: {course(change)} of the completions", paid, hint, changed(change))

    return find


def prefilled(watched: Watched) -> Finding | None:
    """A component gives 0 to everything, and the chat template has opened a tag that completions therefore lack."""
    samples = [sample for group in watched.groups for sample in group.samples]
    opened = watched.groups[0].prompt.prefilled.strip()
    if not opened or len(samples) < SCORED or not any(sample.response.answer for sample in samples):
        return None
    for name, weight in watched.weights.items():
        scores = [score for group in watched.groups for score in group.scores[name] if score is not None]
        if weight and len(scores) >= SCORED and not any(scores):
            return Finding(
                "prefilled",
                f"`{name}` gives 0 to all {len(scores)} completions of the round",
                f"The chat template has already opened {opened}, so completions begin without that tag, and a check "
                "of their text alone fails",
                "Check the whole response (`sample.response`, which has the tag) or use the built-in `format`; where "
                f"{opened} is not the recipe's tag, set prompt.reasoning_tag",
                {"completions": float(len(scores))},
            )
    return None


SIGNS = (
    Sign("prefilled", prefilled),
    Sign(
        "tag_repetition",
        _grows(
            "tag_repetition",
            REPEATED,
            "Tags or whole parts are repeated",
            "Most likely a reward counts tags or matches them anywhere, so that more of them earn more",
            "Reward the form once (the built-in `format`), and add it as a gate",
        ),
    ),
    Sign(
        "answer_ahead",
        _grows(
            "answer_ahead",
            AHEAD,
            "The answer stands before the reasoning or inside it",
            "Most likely a reward reads the answer anywhere in the text, so that the reasoning no longer leads to it",
            "Read `sample.response.answer` in your reward, and add the `format` reward, which requires the order",
        ),
    ),
    Sign(
        "text_outside",
        _grows(
            "text_outside",
            OUTSIDE,
            "There is text outside of the tags",
            "Most likely a reward looks at the whole completion, and nothing requires the form",
            "Add the `format` reward as a gate (format: { gate: true }), or judge `sample.response` alone",
        ),
    ),
)
