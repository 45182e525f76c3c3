"""Alternatives explored: at least two candidates are weighed, each with something that speaks for or against it.

In an outline these are lines of the differential, in prose sentences that weigh. A list of names weighs nothing.
In prose this is poor: of seven that it found in prose not seen before, five were none (docs/behaviour.md).
"""

from __future__ import annotations

import re

from grandrounds.behaviour.trace import Span, Trace, merged

AT_LEAST = 2
_LINE = re.compile(
    r"^(?P<name>[^:;\n]{1,400}):[ \t]*(?:for|against|weighing)\b.*$", re.IGNORECASE | re.MULTILINE
)
_WEIGHS = re.compile(
    r"""\b(?:
        (?:un|less\ |more\ |most\ )likely | possible | possibly | possibilit(?:y|ies)
      | could\ (?:also\ |be\b|do|have) | may\ be | might\ (?:also\ )?be | can\ (?:also|do)\b
      | would\ (?:\w+\ )?(?:explain|cause|come|present|start|mean|expect|raise|be\ fine|likely)
      | explains? | does\ not\ (?:explain|fit|cause) | doesn't\ (?:explain|fit)
      | sp(?:eaks?|oke)\ (?:for|against|in\ favou?r) | argues?\ (?:for|against) | rul(?:e|ed|es|ing)\ out
      | comes\ to\ mind | suggests? | points?\ to | fits?\b
      | alternatively | another\ (?:reading|possibility|explanation|option|cause|view)
      | on\ the\ (?:one|other)\ hand | rather\ than | more\ convincing | if\ it\ were
    )""",
    re.IGNORECASE | re.VERBOSE,
)


def alternatives(trace: Trace) -> tuple[Span, ...]:
    """The lines or sentences that weigh candidates, if they weigh at least two."""
    lines = {match["name"].strip().lower(): match.span() for match in _LINE.finditer(trace.text)}
    if len(lines) >= AT_LEAST:
        return merged(lines.values())
    weighing = [one for one in trace.sentences if _WEIGHS.search(one.text)]
    return merged(one.span for one in weighing) if len(weighing) >= AT_LEAST else ()
