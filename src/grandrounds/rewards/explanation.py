"""Whether sentences below an answer explain the option that it names, or take it back.

They take it back where they name another option and do not deny it, deny the named one, or begin again ("actually",
"wait"). What is unclear takes back: a lenient reading must never give a wrong letter marks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from grandrounds.rewards.surface import MARKDOWN
from grandrounds.rewards.text import contains, mentioned, named, sentences

# Fewer words are no explanation but another answer: "B" above "Lupus".
FEWEST_WORDS = 4
_BEGINS_AGAIN = re.compile(
    r"\b(?:actually|wait|hmm|correction|scratch|alternatively|second thought|i mean|no,|not sure|either|final answer"
    r"|(?:the|my) (?:correct |best )?(?:answer|option|choice))\b|^\s*(?:no|or|and|but)\b|\?",
    re.IGNORECASE | re.MULTILINE,
)
_DENIED_BEFORE = re.compile(
    r"\b(?:not|rules? out|ruling out|exclud\w+|unlike|than|against)\s(?:option\s)?[(\[]?$"
)
_DENIED_AFTER = re.compile(
    r"^[)\]]?(?:(?:,|\s?/|,?\s(?:and|or))\s?[(\[]?[A-Z]\b[)\]]?)*\s"
    r"(?:is|are|was|were|would be|can be|does|do|did)\s"
    r"(?:not|wrong|incorrect|less|unlikely|false|excluded|ruled out|inconsistent)"
)
_SENTENCE = re.compile(r"(?<=[.;:!?])\s|\n")
_LETTER = re.compile(r"(?<![\w'’.-])[A-Z](?![\w'’-])")
# "A friction rub …", "I think": words, no letters.
_WORD = re.compile(r"[AI]\s(?!(?:is|are|was|were|would|can|does|do|did|and|or|could|fits|seems)\b)[a-z]")


def explains(text: str, letter: str, options: Mapping[str, str]) -> bool:
    """Whether a text below an answer explains the option with this letter, names no other, and takes nothing back."""
    text = MARKDOWN.sub("", text).strip()
    if len(text.split()) < FEWEST_WORDS or _BEGINS_AGAIN.search(text) or names_another(text, letter, options):
        return False
    # Both as written and with one name for each concept: "heart attack" names "myocardial infarction".
    rewritten = "; ".join(named(sentence) for sentence in _SENTENCE.split(text))
    names = {other: named(option) for other, option in options.items()}
    found = {*mentioned(text, options), *mentioned(rewritten, names)}
    return found <= {letter} and (letter in found or not contains(sentences(rewritten), names[letter]))


def names_another(text: str, letter: str, options: Mapping[str, str]) -> bool:
    """Whether a text has another option's letter without denying it, or denies this one."""
    for match in _LETTER.finditer(text):
        if match[0] not in options or _WORD.match(text, match.start()):
            continue
        denied = _denied(text[max(0, match.start() - 20) : match.start()], text[match.end() :][:80])
        if denied == (match[0] == letter):
            return True
    return False


def _denied(before: str, after: str) -> bool:
    return bool(_DENIED_BEFORE.search(before) or _DENIED_AFTER.match(after))
