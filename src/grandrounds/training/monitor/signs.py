"""All signs, causes before what follows from them: an answer given ahead lowers validity, not the other way round."""

from __future__ import annotations

from grandrounds.training.monitor import content, form, generalising, lengths, updates
from grandrounds.training.monitor.sign import Sign

SIGNS: dict[str, Sign] = {
    sign.name: sign for family in (updates, form, content, lengths, generalising) for sign in family.SIGNS
}
