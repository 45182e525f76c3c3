"""Guesses which column is which where no format fits, from names that people use and from what stands there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from grandrounds.cases.formats.fields import option_letter

# Our column -> others' names for it, the likeliest first.
NAMES: dict[str, tuple[str, ...]] = {
    "question": (
        "question", "prompt", "query", "problem", "vignette", "case_text", "case", "stem", "task", "instruction",
        "input", "text", "description", "scenario", "narrative", "note", "facts_text",
    ),
    "answer": (
        "answer", "correct_answer", "correct", "gold", "ground_truth", "target", "label", "diagnosis", "solution",
        "key", "answer_key", "outcome", "decision", "result", "output", "response", "completion", "verdict",
    ),
    "reasoning": (
        "reasoning", "explanation", "rationale", "cot", "chain_of_thought", "why", "justification", "thoughts",
    ),
    "context": ("context", "passage", "background", "document", "evidence_text"),
    "options": ("options", "choices", "alternatives", "candidates"),
    "facts": ("facts", "findings", "symptoms", "evidence"),
    "group": ("group", "patient", "patient_id", "subject", "subject_id", "client_id", "matter", "document_id", "pmid"),
    "id": ("id", "case_id", "row_id", "uid", "question_id", "index"),
}  # fmt: skip
# A question is text of at least so many words, on average; an answer is shorter than the question.
QUESTION_WORDS = 4.0


def guessed_columns(rows: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Our column -> the rows' own, as far as a guess goes: by name, else the longest text as the question.

    Columns that have our name already are left out. An answer is guessed by its name alone: a wrong guess would train
    on something else.
    """
    rows = list(rows)
    columns = {_plain(name): name for row in rows[:1] for name in row if option_letter(name) is None}
    found: dict[str, str] = {}
    for ours, names in NAMES.items():
        theirs = next((columns[name] for name in names if name in columns), None)
        if theirs is not None and theirs not in found.values():
            found[ours] = theirs
    if "question" not in found:
        rest = [name for name in columns.values() if name not in found.values()]
        longest = max(rest, key=lambda name: _words(rows, name), default=None)
        if longest is not None and _words(rows, longest) >= QUESTION_WORDS:
            found["question"] = longest
    return {ours: theirs for ours, theirs in found.items() if ours != theirs}


def _plain(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def _words(rows: Sequence[Mapping[str, Any]], name: str) -> float:
    """Words in a column's texts, on average."""
    texts = [value for row in rows if isinstance(value := row.get(name), str)]
    return sum(len(text.split()) for text in texts) / len(texts) if texts else 0.0
