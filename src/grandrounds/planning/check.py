"""Before a run begins: does it fit?"""

from __future__ import annotations

from grandrounds.errors import GrandRoundsError, RunError
from grandrounds.planning.device import GIB, device_memory
from grandrounds.planning.need import Need
from grandrounds.planning.plan import Plan, chosen_device, planned
from grandrounds.planning.prompts import prompts_before_loading
from grandrounds.recipe import Recipe
from grandrounds.types import CaseBook


def check_memory(recipe: Recipe, book: CaseBook) -> str:
    """RunError where a run cannot fit into this device's memory; else a warning where it may not, or "".

    Cannot: were the heap without holes and all else as planned, it still would not. What cannot be planned is not
    judged: loading the model says what is wrong with it.
    """
    try:
        device, dtype = chosen_device(recipe)
        prompts = prompts_before_loading(recipe, book)
        made = planned(recipe, prompts, device, dtype, device_memory(device))
    except GrandRoundsError:
        return ""
    if made.memory is None or made.fits:
        return ""
    amounts = f"needs about {made.need.peak / GIB:.1f} GiB, and {made.memory / GIB:.1f} GiB are there"
    if made.need.least <= made.memory:
        return f"Memory may run short: the run {amounts}. {_mend(made)}"
    raise RunError(f"the run {amounts}", where=_largest_part(made.need), hint=_mend(made))


def _largest_part(parts: Need) -> str:
    """The recipe key that the largest part hangs on."""
    if parts.resident > max(parts.sampling, parts.update):
        return "policy.model"
    return "grpo.group_size" if parts.sampling > parts.update else "grpo.tokens_per_pack"


def _mend(made: Plan) -> str:
    changes, end = made.smallest_change, "`grandrounds plan` shows every part."
    if not changes:
        lora = "policy.adapter: lora, " if made.shape.whole else ""
        return f"Choose {lora}a smaller model or a larger machine; {end}"
    settings = " and ".join(f"{key} to {value}" for key, value in changes.items())
    same = ", which does not change the result" if list(changes) == ["grpo.tokens_per_pack"] else ""
    return f"Lower {settings}{same}; {end}"
