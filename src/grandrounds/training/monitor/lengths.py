"""Signs in the length of completions."""

from __future__ import annotations

from grandrounds.training.monitor.history import Change
from grandrounds.training.monitor.paid import Payer
from grandrounds.training.monitor.readings import CUT_OFF, LENGTH
from grandrounds.training.monitor.sign import Finding, Sign, Watched, changed, course

# Lengths move by some tenths as a policy learns; by these factors at equal accuracy the length itself is learned.
COLLAPSE, CREEP = 0.7, 1.3
# A tenth more of all completions cut off is no noise of a few long cases.
MORE_CUT_OFF = 0.1


def length_collapse(watched: Watched) -> Finding | None:
    """Completions become clearly shorter while accuracy stays the same."""
    payer = watched.payer(LENGTH, -1)
    change = watched.history.at_equal_accuracy(
        LENGTH, lambda change: change.scaled(COLLAPSE, paid=payer is not None)
    )
    if change is None:
        return None
    return Finding(
        "length_collapse",
        f"Completions have shrunk from {_course(change)} tokens while accuracy has not risen",
        _paid(payer, "shorter")
        or "Most likely the reward pays for short completions, so that the reasoning is given up",
        "Lower the weight of what penalises length, or add a reward for the reasoning (validity, evidence, coverage)",
        changed(change),
    )


def length_creep(watched: Watched) -> Finding | None:
    """Completions become clearly longer while accuracy stays the same."""
    payer = watched.payer(LENGTH)
    change = watched.history.at_equal_accuracy(
        LENGTH, lambda change: change.scaled(CREEP, paid=payer is not None)
    )
    if change is None:
        return None
    return Finding(
        "length_creep",
        f"Completions have grown from {_course(change)} tokens while accuracy has not risen",
        _paid(payer, "longer")
        or "Most likely the reward or the loss favours long completions (grpo.loss: grpo divides by the length, so "
        "that long wrong ones cost little)",
        "Add the `length` or the `repetition` reward, or use grpo.loss: dr_grpo or dapo",
        changed(change),
    )


def cut_off(watched: Watched) -> Finding | None:
    """More and more completions do not end before max_new_tokens."""
    payer = watched.payer(LENGTH)
    change = watched.history.since_start(
        CUT_OFF, lambda change: change.clear(MORE_CUT_OFF, paid=payer is not None)
    )
    if change is None:
        return None
    return Finding(
        "cut_off",
        f"Completions that are cut off before they end: {course(change)}",
        _paid(payer, "longer")
        or "Most likely they have grown up to the limit, or the policy forgets how to end",
        f"Add the `length` reward, or raise grpo.max_new_tokens ({watched.recipe.grpo.max_new_tokens})",
        changed(change),
    )


def _course(change: Change) -> str:
    return f"{change.before.mean:.0f} to {change.now.mean:.0f}"


def _paid(payer: Payer | None, kind: str) -> str:
    if payer is None:
        return ""
    return (
        f"`{payer.component}` pays for it: among completions that are equally right, {10 * payer.slope:.2g} of reward "
        f"for 10 tokens {kind}"
    )


SIGNS = (
    Sign("length_collapse", length_collapse),
    Sign("length_creep", length_creep),
    Sign("cut_off", cut_off),
)
