"""Every error a user can cause or fix, as one family.

    GrandRoundsError            what went wrong, where, and how to fix it
    ├── RecipeError             a recipe key is unknown, of the wrong type, or contradicts another
    ├── CaseError               a case or its file cannot be read or makes no sense
    ├── PolicyError             the model, its tokenizer or its checkpoint cannot be used
    ├── RewardError             a reward raised, hung or returned something that is no reward
    └── RunError                the run cannot start, go on or be saved

The command line prints the three parts; the Python API raises them.
"""

from __future__ import annotations

import shlex


def command(*arguments: object) -> str:
    """A `grandrounds` command as a shell takes it: paths with spaces are quoted."""
    return shlex.join(["grandrounds", *map(str, arguments)])


class GrandRoundsError(Exception):
    """A mistake that its reader can fix.

    what: one sentence that says what is wrong.
    where: file and line, case id, or recipe key; empty where there is no place to point at.
    hint: one sentence that says what to do about it.
    """

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        self.what, self.where, self.hint = what, where, hint
        super().__init__(" ".join(part for part in (f"{where}: {what}" if where else what, hint) if part))


class RecipeError(GrandRoundsError):
    """A recipe key is unknown, of the wrong type, or contradicts another."""


class CaseError(GrandRoundsError):
    """A case or its file cannot be read or makes no sense."""


class PolicyError(GrandRoundsError):
    """The model, its tokenizer or its checkpoint cannot be used."""


class RewardError(GrandRoundsError):
    """A reward raised, hung or returned something that is no reward."""


class RunError(GrandRoundsError):
    """The run cannot start, go on or be saved."""
