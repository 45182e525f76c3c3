"""The recipe's section `guard`: what watches over a run, and what it does at which sign."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from grandrounds.domain import Positive, Section

GuardAction = Literal["ignore", "warn", "pause", "roll_back"]
SignName = Literal[
    "ratio",
    "kl",
    "entropy_growth",
    "entropy_collapse",
    "no_signal",
    "prefilled",
    "tag_repetition",
    "answer_ahead",
    "text_outside",
    "letter_bias",
    "invented",
    "validity",
    "length_collapse",
    "length_creep",
    "cut_off",
    "wrong_pays",
    "accuracy_lost",
    "not_general",
    "reward_alone",
    "held_out_lost",
]


class GuardRecipe(Section):
    """What watches over the rounds: a run that cannot learn stops, one that learns the wrong thing raises an alarm."""

    enabled: bool = Field(
        True, description="Stop with a diagnosis when the run cannot learn, and look for signs of trouble."
    )
    patience: Positive = Field(
        10, description="Consecutive rounds that must show that it cannot learn; with `enabled`."
    )
    action: GuardAction = Field(
        "warn",
        description="At a new sign of trouble: `ignore` it, `warn`, `pause` (save and stop; resume goes on), or "
        "`roll_back` (stop, and make the best checkpoint before it the run's newest).",
    )
    signs: dict[SignName, GuardAction] = Field(
        {}, description="Signs that get another action: { letter_bias: pause, length_creep: ignore }."
    )
