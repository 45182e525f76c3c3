"""One group for the page: the case, and its completions with all that is known of each."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from grandrounds.report.findings import asked, cited, pieces, stated
from grandrounds.report.words import DEFECTS
from grandrounds.response.grammar import Grammar
from grandrounds.view.run import Stored

# Characters of a text that the page gets at first; the rest on demand.
SHOWN = 20_000


def group_page(stored: Sequence[Stored], grammar: Grammar) -> dict[str, Any]:
    """The group as JSON-able values. Texts come in pieces with their marks, cut where they are very long."""
    first = stored[0]
    case = asked(first.question or first.prompt, first.facts)
    texts = [one.text[:SHOWN] for one in stored]
    marks = [cited(grammar.parse(text), case) for text in texts]
    shown = case.question if isinstance(case.question, str) else ""
    question, elsewhere = stated(case, shown[:SHOWN], marks)
    return {
        "case_id": first.case_id,
        "question": question,
        "elsewhere": elsewhere,
        "question_characters": len(shown),
        "question_is_prompt": first.question is None,
        "prompt": first.prompt[:SHOWN],
        "prompt_characters": len(first.prompt),
        "gold": _short(first.gold),
        "facts_known": first.facts is not None,
        "tokens_known": any(one.tokens is not None for one in stored),
        "samples": [
            {
                **_sample(one),
                "text": pieces(text, found),
                "findings": list(found.items()),
                "tokens": _tokens(one),
            }
            for one, text, found in zip(stored, texts, marks, strict=True)
        ],
    }


def _sample(one: Stored) -> dict[str, Any]:
    return {
        "sample": one.sample,
        "characters": len(one.text),
        "reward": one.reward,
        "advantage": one.advantage,
        "length": one.length,
        "finish": one.finish,
        "answer": _short(one.answer),
        "given": _short(one.given),
        "correct": one.correct,
        "defects": [DEFECTS.get(defect, defect) for defect in one.defects],
        "components": [{**asdict(component), "note": _words(component.note)} for component in one.components],
        "extras": [[name, _words(value)] for name, value in one.extras.items()],
    }


def _tokens(one: Stored) -> list[tuple[str, float | None]] | None:
    if one.tokens is None:
        return None
    return [
        (text, round(logprob, 4) if math.isfinite(logprob) else None) for text, logprob in one.tokens[:SHOWN]
    ]


def _short(text: str | None) -> str | None:
    return None if text is None else text[:1000]


def _words(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return _short(value)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return _short("; ".join(value))
    return _short(json.dumps(value, ensure_ascii=False, default=str))
