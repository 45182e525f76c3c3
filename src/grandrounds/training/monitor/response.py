"""What is done at an alarm: the user is told, and the run pauses or goes back to a good checkpoint."""

from __future__ import annotations

from grandrounds.training.held_out import HeldOut
from grandrounds.training.monitor.monitor import Alarm, good_round
from grandrounds.training.saving import name_of
from grandrounds.training.setup import Setup


def tell(setup: Setup, alarm: Alarm) -> None:
    """A line for each new sign."""
    for finding in alarm.findings:
        setup.progress.note(f"Warning ({finding.sign}): {finding.text}.")


def tell_of_pause(setup: Setup, alarm: Alarm, number: int) -> None:
    """Say that the run is saved, and how it goes on."""
    setup.progress.note(
        f"Paused after round {number}, because of {alarm.names} (guard). Resumed, the run goes on until there is "
        "another sign."
    )


def roll_back(setup: Setup, held_out: HeldOut, alarm: Alarm, number: int) -> int:
    """Make a good checkpoint before the alarm the run's newest one. Returns its round.

    Rows and rollouts of later rounds stay to be read until the run is resumed. Killed in between, the run is resumed
    from a checkpoint before the alarm, comes to it again, and goes back then.
    """
    checkpoints = setup.folder.checkpoints
    rounds = [int(path.name) for path in checkpoints.complete()]
    good = good_round(rounds, held_out.rows, setup.recipe.evaluation.best, number)
    setup.folder.append_rolled_back(
        {"round": number, "to": good, "findings": [finding.to_json() for finding in alarm.findings]}
    )
    checkpoints.remove_after(good)
    setup.progress.note(
        f"Rolled back from round {number} to round {good}, because of {alarm.names} (guard). "
        f"{checkpoints.folder / name_of(good)} is the newest checkpoint now; until the run is resumed, the rollouts of "
        "later rounds can still be read. With the same settings and rewards the same would happen again: repair the "
        f"cause first, or ignore the sign (--set guard.signs.{alarm.findings[0].sign}=ignore)."
    )
    return good
