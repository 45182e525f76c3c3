"""Signs in the form of completions: answers ahead of the reasoning, text outside of tags, tags repeated, prefilled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from grandrounds.training.monitor.readings import AHEAD, OUTSIDE, REPEATED
from grandrounds.training.monitor.sign import Finding, Sign, Watched, changed, course

# A tenth more of all completions: below that a few odd cases could explain it.
MORE = 0.1
# Completions that a component must have scored before "always 0" means anything.
SCORED = 32


def _grows(sign: str, feature: str, shown: str, cause: str, hint: str) -> Callable[[Watched], Finding | None]:
    """A sign that shows where a feature is in clearly more completions than in the run's first rounds."""

    def find(watched: Watched) -> Finding | None:
        payer = watched.payer(feature)
        change = watched.history.since_start(
            feature, lambda change: change.clear(MORE, paid=payer is not None)
        )
        if change is None:
            return None
        paid = f"`{payer.component}` pays for it: {payer.slope:.2g} of reward more" if payer else cause
        return Finding(sign, f"{shown}: {course(change)} of the completions", paid, hint, changed(change))

    return find


def prefilled(watched: Watched) -> Finding | None:
    """A component gives 0 to everything because the chat template has opened a tag that completions therefore lack."""
    opened = watched.groups[0].prompt.prefilled
    for name, weight in watched.weights.items() if opened else ():
        scores = [score for group in watched.groups for score in group.scores[name] if score is not None]
        if not weight or len(scores) < SCORED or any(scores):
            continue
        cause = _missing_tag(watched, name, opened) or _other_tag(watched, opened)
        if cause is not None:
            what = f"`{name}` gives 0 to all {len(scores)} completions of the round"
            return Finding("prefilled", what, *cause, {"completions": float(len(scores))})
    return None


def _missing_tag(watched: Watched, name: str, opened: str) -> tuple[str, str] | None:
    """Cause and hint where the component gives something else once the tag is put in front of the completions."""
    samples = [
        replace(sample, completion=replace(sample.completion, text=opened + sample.text))
        for sample in watched.groups[0].samples
    ]
    if not any(watched.scored(name, samples)):
        return None
    return (
        f"The chat template has already opened {opened.strip()}, so completions begin without it, and this component "
        "looks for it in their text: with it in front it gives more",
        "Check the whole response in it (`sample.response`, which has the tag), or use the built-in `format`",
    )


def _other_tag(watched: Watched, opened: str) -> tuple[str, str] | None:
    """Cause and hint where the template's tag is not the recipe's, and completions close it."""
    tag, ours = opened.strip(), watched.recipe.prompt.reasoning_tag
    closed = [tag.replace("<", "</") in sample.text for group in watched.groups for sample in group.samples]
    if tag.strip("<>").lower() == ours.lower() or 2 * sum(closed) < len(closed):
        return None
    return (
        f"The chat template has already opened {tag}, and the responses use it; the recipe asks for <{ours}>",
        f"Set prompt.reasoning_tag: {tag.strip('<>')}",
    )


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
