"""Shapes that are read although they look like others, and every shape that is refused, with what is said."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from grandrounds.cases.inspect import inspect_cases
from grandrounds.cases.load import load_cases
from grandrounds.errors import CaseError
from grandrounds.recipe import CasesRecipe
from grandrounds.types import Answer, Case, CaseBook

OPTIONS = ["gout", "scurvy", "asthma", "croup"]


def book_of(folder: Path, row: dict[str, Any], count: int = 30, **how: Any) -> CaseBook:
    source = folder / "rows.jsonl"
    source.write_text((json.dumps(row) + "\n") * count, encoding="utf-8")
    return load_cases(CasesRecipe(source=str(source), test_fraction=0, **how), seed=0)


def first(folder: Path, row: dict[str, Any]) -> Case:
    return book_of(folder, row).train[0]


REFUSED = {
    "an image": ({"question": "What is it?", "answer": "gout", "image": "a.png"}, "has an image, in `image`"),
    "options as one text": (
        {"question": "Which?", "options": "A. gout B. croup", "answer": "A"},
        "should be a list or a mapping of letters",
    ),
    "HellaSwag": ({"ctx": "A man", "endings": OPTIONS, "label": "2"}, "not recognised by its columns"),
    "PIQA": ({"goal": "Open", "sol1": "a", "sol2": "b", "label": 1}, "not recognised by its columns"),
    "WinoGrande": (
        {"sentence": "The _", "option1": "cat", "option2": "dog", "answer": "2"},
        "no column `question`.*cases.columns.question=",
    ),
    "TruthfulQA": (
        {"question": "What?", "mc1_targets": {"choices": ["a", "b"], "labels": [1, 0]}},
        "no column `answer`.*cases.columns.answer=",
    ),
    "SQuAD's nested file": (
        {"data": [{"paragraphs": [{"context": "c", "qas": [{"question": "q"}]}]}]},
        "not recognised by its columns data",
    ),
    "SQuAD 2 without an answer": (
        {"question": "Who?", "context": "Nobody.", "answers": {"text": [], "answer_start": []}},
        "no answer is given: the passage has none",
    ),
    "plain text": ({"text": "Once upon a time."}, "not recognised by its columns text"),
    "another language's columns": ({"Frage": "Was?", "Antwort": "Gicht"}, "no column `question`"),
    "BoolQ with another answer": (
        {"question": "is it", "passage": "It is.", "answer": "perhaps"},
        "neither true nor false",
    ),
    "a chat without a user": (
        {"messages": [{"role": "system", "content": "s"}, {"role": "assistant", "content": "a"}]},
        "no user's message to answer",
    ),
    "a tool's turn": (
        {"messages": [{"role": "user", "content": "q"}, {"role": "tool", "content": "t"}]},
        "should have a role",
    ),
    "a picture in a chat": (
        {"messages": [{"role": "user", "content": [{"type": "image"}]}], "answer": "x"},
        "text content",
    ),
}


@pytest.mark.parametrize("shape", REFUSED)
def test_a_shape_that_cannot_be_read_is_refused_with_what_to_do(shape: str, tmp_path: Path) -> None:
    row, said = REFUSED[shape]
    with pytest.raises(CaseError, match=f"(?s){said}") as refusal:
        book_of(tmp_path, row)
    assert refusal.value.hint
    assert "rows.jsonl" in str(refusal.value)


def test_questions_on_a_passage_show_it(tmp_path: Path) -> None:
    case = first(tmp_path, {"question": "is it blue", "passage": "It is red.", "answer": False})
    assert case.context == ("It is red.",)
    assert (case.gold.kind, case.gold.text, case.gold.synonyms) == ("label", "no", ("false",))


def test_an_answer_that_thinks_aloud_is_a_demonstration(tmp_path: Path) -> None:
    turns = [
        {"from": "human", "value": "What is 2 + 2?"},
        {"from": "gpt", "value": "<think>\nTwo more\nthan two.\n</think>\n\n<answer> 4 </answer>"},
    ]
    case = first(tmp_path, {"conversations": turns})
    assert (case.gold.kind, case.gold.text) == ("number", "4")
    assert case.demonstration is not None
    assert (case.demonstration.reasoning, case.demonstration.answer) == ("Two more\nthan two.", "4")


@pytest.mark.parametrize(
    "row",
    [
        {"Question": "What?", "Answer": "gout"},
        {"QUESTION ": "What?", "ANSWER": "gout", "Options": OPTIONS},
        {"Problem": "What?", "Solution": "So \\boxed{gout}", "Answer": "gout"},
    ],
)
def test_columns_are_read_whatever_their_capitals(row: dict[str, Any], tmp_path: Path) -> None:
    book = book_of(tmp_path, row)
    assert book.train[0].question == "What?"
    assert book.train[0].gold.text == "gout"
    assert any("whatever their capitals" in note for note in book.notes)


def test_capitals_that_leave_two_columns_alike_are_not_guessed_at(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match="question"):
        book_of(tmp_path, {"Question": "What?", "QUESTION": "Why?", "Answer": "gout"})


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"vignette": "A man of 40."}, "does not see the column `vignette`"),
        ({"chosen": "a", "rejected": "b"}, "does not learn from `chosen` and `rejected`"),
    ],
)
def test_what_the_model_does_not_get_is_said(more: dict[str, Any], said: str, tmp_path: Path) -> None:
    report = inspect_cases(book_of(tmp_path, {"question": "What has he?", "answer": "gout", **more}))
    assert any(said in concern for concern in report.concerns)


ROW = {"id": "1", "question": "Which?", "options": {"A": "gout", "B": "croup"}, "answer": "A"}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"id": "x\ud800"}, "the column 'id' holds half of a surrogate pair \\(U\\+D800\\)"),
        ({"question": "\udc00?"}, "the column 'question' holds .*U\\+DC00"),
        ({"options": {"A": "gout", "B": "\ud800"}, "answer": "none"}, "the column 'options'"),
        ({"options": '["gout", "\\ud800"]'}, "the case's options"),  # JSON within a column
        ({"note\ud800": "more"}, "note.* holds half"),
    ],
)
def test_half_of_a_surrogate_pair_is_refused_where_it_enters(
    change: dict[str, Any], named: str, tmp_path: Path
) -> None:
    source = tmp_path / "rows.jsonl"
    good = [{**ROW, "id": f"good {number} \U0001f600"} for number in range(3)]
    source.write_text("\n".join(map(json.dumps, [*good, {**ROW, **change}])), encoding="utf-8")
    with pytest.raises(CaseError, match=named) as caught:
        load_cases(CasesRecipe(source=str(source), test_fraction=0), seed=0)
    assert caught.value.where == f"{source}:4"
    kept = load_cases(CasesRecipe(source=str(source), test_fraction=0, bad_rows="skip"), seed=0)
    assert len(kept.train) == 3
    "\n".join(kept.left_out).encode()
    with pytest.raises(CaseError, match=named):
        load_cases(CasesRecipe(), seed=0, given=[*good, {**ROW, **change}])


def test_half_of_a_surrogate_pair_is_refused_in_cases_in_memory_and_in_phenopackets(tmp_path: Path) -> None:
    case = Case("x\ud800", "Which?", Answer("text", "gout"))
    with pytest.raises(CaseError, match="the case's id holds half of a surrogate pair"):
        load_cases(CasesRecipe(), seed=0, given=[case])
    with pytest.raises(CaseError, match="the case's gold holds"):
        load_cases(CasesRecipe(), seed=0, given=[replace(case, id="x", gold=Answer("text", "\udfff"))])
    source = tmp_path / "packets.jsonl"
    packet = {"id": "\ud800", "phenotypicFeatures": [], "interpretations": [], "metaData": {}}
    source.write_text(json.dumps(packet), encoding="utf-8")
    with pytest.raises(CaseError, match="the column 'id' holds half"):
        load_cases(CasesRecipe(source=str(source), format="phenopackets"), seed=0)
