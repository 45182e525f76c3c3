"""Revision: the reasoning takes back, corrects or reopens an earlier statement of its own.

"Wait for the results" and "the court reviewed its decision" are none: somebody else goes back, or nobody does.
"""

from __future__ import annotations

import re

from grandrounds.behaviour.trace import Span, Trace, merged

_GOES_BACK = re.compile(
    r"""(?:^|[.!?,;:—–-]\ )(?:(?:oh|hm+|ah|no|but|ok|okay),?\ )?(?:wait|hold\ on)
            (?:[,.!:—–]|\ -|\ (?:no|that|this|i|a\ (?:minute|second|moment))\b)
      | \bon\ (?:reflection|second\ thoughts?|reconsideration)\b
      | \blet\ me\ (?:\w+\ )?(?:reconsider|re-?think|re-?examine|revisit|re-?add|correct|go\ back|start\ over)
      | \bi(?:'ve|\ have)?\ (?:\w+\ )?(?:was\ (?:wrong|mistaken)|made\ an?\ (?:mistake|slip|error)|misread|miscounted
            |inverted|overlooked|forgot|ignored|take\ (?:that|this|it)\ back|change\ my\ (?:answer|mind)
            |no\ longer\ think|need\ to\ correct)
      | (?:^|[.!?]\ )correction\b | \bscratch\ that\b
      | \bactually,?\ (?:no|that|this|it|i|the)\b
      | \b(?:that|this|it)(?:'s|\ is|\ was)\ (?:not\ right|not\ correct|wrong|incorrect|a\ mistake)\b
      | \b(?:that|this|it)\ (?:can't|cannot)\ be\b
      | \bhmm+,?\ (?:no|that|let\ me)\b""",
    re.IGNORECASE | re.VERBOSE | re.MULTILINE,
)
# What it thought before; it goes back on that where a turn follows.
_BEFORE = re.compile(
    r"""\bmy\ (?:first|earlier|initial|previous)\ (?:\w+\ )?(?:thought|guess|answer|statement|assumption|calculation)\b
      | \bi\ (?:first|initially|previously|earlier)\ (?:\w+\ )?(?:thought|said|assumed|leaned|wrote|took)\b
      | \bat\ first\ i\ (?:thought|said|assumed)\b""",
    re.IGNORECASE | re.VERBOSE,
)
_TURNS = re.compile(r"\b(?:but|however|yet|instead|no longer|wrong|contradicts?)\b", re.IGNORECASE)
# One of these is in all that goes back.
_HINTS = (
    "wait",
    "hold on",
    "reflection",
    "second thought",
    "reconsider",
    "let me",
    "wrong",
    "mistake",
    "slip",
    "error",
    "misread",
    "miscounted",
    "inverted",
    "overlooked",
    "forgot",
    "ignored",
    "back",
    "change my",
    "no longer",
    "correct",
    "scratch",
    "actually",
    "not right",
    "cannot be",
    "can't be",
    "my ",
    "first",
    "i initially",
    "i previously",
    "i earlier",
    "hm",
)
# Waits for something in the case.
_AWAITS = re.compile(r"\b(?:wait|hold on)\ (?:for|until|till|to|and|a few|\d)", re.IGNORECASE)


def revision(trace: Trace) -> tuple[Span, ...]:
    """The sentences in which the reasoning goes back on itself. What it begins with cannot: nothing was said before."""
    found: list[Span] = []
    for place, one in trace.sentences_with(_HINTS):
        if _AWAITS.search(one.text):
            continue
        back = _GOES_BACK.search(one.text)
        if back and (place or back.start()):
            found.append(one.span)
        elif before := _BEFORE.search(one.text):
            after = " ".join(
                [one.text[before.end() :], *(next.text for next in trace.sentences[place + 1 : place + 2])]
            )
            if _TURNS.search(after):
                found.append(one.span)
    return merged(found)
