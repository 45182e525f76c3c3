"""Signs in what completions say: one letter favoured, findings invented, right answers with wrong reasoning."""

from __future__ import annotations

from grandrounds.shares import points
from grandrounds.training.monitor.history import Change
from grandrounds.training.monitor.paid import Payer, most_paying
from grandrounds.training.monitor.readings import CONSISTENT, INVENTED, LETTER, VALID, Reading, excess
from grandrounds.training.monitor.sign import Finding, Sign, Watched, changed, course

# A tenth of all answers, findings or right answers: less may come and go with what a round's cases are like.
MORE = 0.1
# Of full marks: so much for a wrong answer is no side effect of what else a component looks at.
MARKS = 0.75


def letter_bias(watched: Watched) -> Finding | None:
    """A wrong option gets marks, or is answered clearly more often than the others and than in the first rounds."""
    names = {name for row in watched.history.rounds for name in row if name.startswith(LETTER)}
    found = [_bias(watched, name.removeprefix(LETTER)) for name in sorted(names)]
    return max(filter(None, found), key=lambda one: one.numbers["now"], default=None)


def _bias(watched: Watched, letter: str) -> Finding | None:
    payer = most_paying(watched.groups, excess(letter), watched.weights, 1)
    if payer and payer.slope >= MARKS * abs(watched.weights[payer.component]):
        return _marked(letter, payer)
    paid = payer is not None

    def biased(change: Change) -> bool:
        even = Change(Reading(0.0, 0.0, change.now.groups), change.now)
        return change.clear(MORE, paid=paid) and even.clear(MORE, paid=paid)

    change = watched.history.since_start(LETTER + letter, biased)
    if change is None:
        return None
    return Finding(
        "letter_bias",
        f"Where {letter} is wrong, it is answered more often than the other wrong options, by "
        f"{points(change.now.mean)} percentage points, at the start by {points(change.before.mean)}",
        f"`{payer.component}` pays for it: {payer.slope:.2g} of reward more for answering {letter}"
        if payer
        else f"Most likely {letter} is right more often in the training cases, or a reward favours it",
        "`grandrounds cases` shows how often each letter is right; cases.balance: label closes it; look for the letter "
        "in your reward",
        changed(change),
    )


def _marked(letter: str, payer: Payer) -> Finding:
    return Finding(
        "letter_bias",
        f"Where {letter} is wrong, `{payer.component}` gives {payer.slope:.2g} of reward more to completions that "
        "answer it than to others that are as wrong",
        "Most likely it compares with a gold answer that was parsed wrongly, or that is the same for every case",
        "Print what it compares with; `grandrounds rewards test` tries it on your cases",
        {"now": payer.slope},
    )


def invented_findings(watched: Watched) -> Finding | None:
    """A clearly larger share of the cited findings is not in the case."""
    payer = watched.payer(INVENTED)
    change = watched.history.since_start(INVENTED, lambda change: change.clear(MORE, paid=payer is not None))
    if change is None:
        return None
    return Finding(
        "invented",
        f"Cited findings that the case does not have: {course(change)}",
        f"`{payer.component}` pays for it: {payer.slope:.2g} of reward more where all are invented"
        if payer
        else "Most likely a reward counts findings and does not check them",
        "Use the `evidence` reward, in which invented findings cost as much as found ones earn",
        changed(change),
    )


def validity(watched: Watched) -> Finding | None:
    """Fewer right answers have a reasoning that is valid; or, where nothing knows that, one that concludes them."""
    checked = any(VALID in row for row in watched.history.rounds)
    change = watched.history.since_start(VALID if checked else CONSISTENT, lambda change: change.clear(-MORE))
    if change is None:
        return None
    shown = "a valid reasoning" if checked else "a reasoning that concludes them"
    reward = "`validity`" if checked else "`consistency`"
    return Finding(
        "validity",
        f"Right answers with {shown}: {course(change)}",
        "Most likely only the answer is rewarded, so that the reasoning no longer has to lead to it",
        f"Add the {reward} reward, or raise its weight",
        changed(change),
    )


SIGNS = (
    Sign("letter_bias", letter_bias),
    Sign("invented", invented_findings),
    Sign("validity", validity),
)
