"""Signs in what completions say: one letter favoured, findings invented, right answers with wrong reasoning."""

from __future__ import annotations

from grandrounds.training.monitor.history import CLEARLY, Change
from grandrounds.training.monitor.paid import most_paying
from grandrounds.training.monitor.readings import CONSISTENT, INVENTED, LETTER, VALID, excess
from grandrounds.training.monitor.sign import Finding, Sign, Watched, changed, course

# A tenth of all answers, findings or right answers: less may come and go with what a round's cases are like.
MORE = 0.1


def letter_bias(watched: Watched) -> Finding | None:
    """An option is answered clearly more often than the other wrong ones, and more so than in the first rounds."""
    names = {name for row in watched.history.rounds for name in row if name.startswith(LETTER)}
    changes = [(name, watched.history.since_start(name, _biased)) for name in sorted(names)]
    biased = [(name, change) for name, change in changes if change is not None]
    if not biased:
        return None
    name, change = max(biased, key=lambda pair: pair[1].difference)
    letter = name.removeprefix(LETTER)
    payer = most_paying(watched.groups, excess(letter), watched.weights, 1)
    paid = (
        f"`{payer.component}` pays for it: {payer.slope:.2g} of reward more for answering {letter}"
        if payer
        else ""
    )
    return Finding(
        "letter_bias",
        f"Where {letter} is wrong, it is answered in {change.now.mean:+.0%} more of the completions than the other "
        f"wrong options, at the start {change.before.mean:+.0%}",
        paid or f"Most likely {letter} is right more often in the training cases, or a reward favours it",
        "`grandrounds cases` shows how often each letter is right; cases.balance: label closes it; look for the letter "
        "in your reward",
        changed(change),
    )


def _biased(change: Change) -> bool:
    return change.clear(MORE) and change.now.mean >= max(MORE, CLEARLY * change.now.error)


def invented_findings(watched: Watched) -> Finding | None:
    """A clearly larger share of the cited findings is not in the case."""
    change = watched.history.since_start(INVENTED, lambda change: change.clear(MORE))
    if change is None:
        return None
    payer = watched.payer(INVENTED)
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
