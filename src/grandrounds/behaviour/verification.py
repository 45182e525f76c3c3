"""Self-verification: the reasoning checks its own result against the case or the rule, or works it out again.

A check counts where it says what came of it. "Let me check" alone is an announcement, "check the potassium" is advice.
"""

from __future__ import annotations

import re

from grandrounds.behaviour.trace import Span, Trace, merged

# Announces a check of what was said before.
_ANNOUNCES = re.compile(
    r"""\b(?:
        let(?:'s|\ us|\ me)\ (?:\w+\ )?
            (?:double-?\ ?check|check|verify|confirm|re-?check|re-?add|re-?calculate|make\ sure)
      | (?:to|i(?:'ll|\ will|\ can|\ must)?|we(?:'ll|\ will|\ can|\ must)?|now)\ (?:\w+\ )?
            (?:double-?\ ?check|verify|confirm|re-?check)
      | (?:double-?|re-?)checking | checking\ (?:this|that|it|back|again|the\ (?:answer|result|conclusion|sum|total))
      | sanity\ check | cross-?check
      | (?:substitut|plugg?|multiply|add|work)ing?\ (?:\w+\ ){0,4}back
      | does\ (?:this|that|it|the\ (?:answer|result))\ (?:make\ sense|fit|hold|agree)
      | is\ (?:this|that|it|the\ (?:answer|result))\ (?:consistent|plausible|reasonable|right|correct)
    )\b""",
    re.IGNORECASE | re.VERBOSE,
)
# Is a check by itself, as it says what came of it.
_CHECKS = re.compile(
    r"""^(?:check|checking|verification):\ (?=.*\w)
      | \bboth\ (?:ways|methods|approaches)\ (?:give|agree|lead)
      | \b(?:this|that|it)\ (?:can't|cannot|can\ not)\ be(?:\ (?:right|correct|true))?
      | \b(?:this|it|that|which)\ (?:agrees\ with|is\ consistent\ with|matches|satisfies)\ the\b""",
    re.IGNORECASE | re.VERBOSE,
)
_OUTCOME = re.compile(
    r"""=|\b(?:yes|no|good|right|correct|indeed|fits?|match(?:es)?|agrees?|consistent|holds?|plausible|makes\ sense
      |confirms|confirmed|contradicts?|satisf\w+|equals|gives?|does(?:n't|\ not)|is\ not|stays|remains|leads)\b""",
    re.IGNORECASE | re.VERBOSE,
)
# One of these is in all that checks.
_HINTS = (
    "check",
    "verif",
    "confirm",
    "re-add",
    "readd",
    "calculate",
    "make sure",
    "back",
    "does ",
    "is this",
    "is that",
    "is it",
    "is the",
    "both ",
    "cannot",
    "can not",
    "can't",
    "agrees with",
    "consistent",
    "matches",
    "satisfies",
)
# Sentences in which the outcome may stand: that of the announcement and the next.
_WITHIN = 2


def self_verification(trace: Trace) -> tuple[Span, ...]:
    """The checks of its own result, each with the sentence that says what came of it."""
    found: list[Span] = []
    listed = trace.sentences
    for place, sentence in trace.sentences_with(_HINTS):
        if _CHECKS.search(sentence.text):
            found.append(sentence.span)
            continue
        if not (announced := _ANNOUNCES.search(sentence.text)):
            continue
        for later in listed[place : place + _WITHIN]:
            said = later.text[announced.end() :] if later is sentence else later.text
            if _OUTCOME.search(said):
                found.append((sentence.start, later.span[1]))
                break
    return merged(found)
