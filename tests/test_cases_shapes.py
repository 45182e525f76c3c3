"""Each published shape is recognised by its columns and read as its authors mean it; five invented rows each."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rewards_support import sample, score

from grandrounds.cases.ask import ask, gold_text
from grandrounds.cases.formats import build_cases, formats, recognise
from grandrounds.cases.read import Row
from grandrounds.errors import CaseError, GrandRoundsError
from grandrounds.recipe import PromptRecipe
from grandrounds.response import Grammar
from grandrounds.rewards.matching import judge
from grandrounds.types import Case

Make = Callable[[int], dict[str, Any]]
OPTIONS = ["Gout", "Sepsis", "Asthma", "Scurvy"]
CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who 1?"}]

# name -> (row number n, the kind of gold answer, an answer that is right for row 2)
SHAPES: dict[str, tuple[Make, str, str]] = {
    "gsm8k": (
        lambda n: {
            "question": f"{n} apples and {n} more?",
            "answer": f"Add.\n{n}+{n}=<<{n}+{n}={2 * n}>>{2 * n}\n#### {2 * n}",
        },
        "number",
        "4",
    ),
    "math": (
        lambda n: {
            "problem": f"Halve {n}.",
            "solution": f"So $\\boxed{{\\frac{{{n}}}{{2}}}}$.",
            "level": "Level 1",
            "type": "Algebra",
        },
        "text",
        "\\frac{2}{2}",
    ),
    "math, Open-R1": (
        lambda n: {
            "problem": f"Double {n}.",
            "solution": "Easy.",
            "answer": str(2 * n),
            "source": "olympiads",
        },
        "number",
        "4",
    ),
    "verl": (
        lambda n: {
            "data_source": "math_dapo",
            "prompt": [{"role": "user", "content": f"Double {n}."}],
            "ability": "MATH",
            "reward_model": {"ground_truth": str(2 * n), "style": "rule"},
            "extra_info": {"index": n},
        },
        "number",
        "4",
    ),
    "mmlu": (
        lambda n: {"question": f"Which {n}?", "choices": OPTIONS, "answer": n % 4, "subject": "anatomy"},
        "choice",
        "Asthma",
    ),
    "mmlu, by letter": (
        lambda n: {"question": f"Which {n}?", "choices": OPTIONS, "answer": "ABCD"[n % 4]},
        "choice",
        "C",
    ),
    "arc": (
        lambda n: {
            "id": f"arc-{n}",
            "question": f"Which {n}?",
            "choices": {"text": OPTIONS, "label": ["1", "2", "3", "4"]},
            "answerKey": str(n % 4 + 1),
        },
        "choice",
        "Asthma",
    ),
    "boolq": (
        lambda n: {"question": f"is {n} even", "passage": f"Of {n}.", "answer": n % 2 == 0},
        "label",
        "yes",
    ),
    "squad": (
        lambda n: {
            "question": f"Who is {n}?",
            "context": f"name {n}",
            "answers": {"text": [f"name {n}"], "answer_start": [0]},
        },
        "text",
        "name 2",
    ),
    "sciq": (
        lambda n: {
            "question": f"Which {n}?",
            "correct_answer": OPTIONS[n % 4],
            **{f"distractor{i}": OPTIONS[(n + i) % 4] for i in (1, 2, 3)},
            "support": "",
        },
        "choice",
        "Asthma",
    ),
    "gpqa": (
        lambda n: {
            "Question": f"Which {n}?",
            "Correct Answer": OPTIONS[n % 4],
            **{f"Incorrect Answer {i}": OPTIONS[(n + i) % 4] for i in (1, 2, 3)},
        },
        "choice",
        "Asthma",
    ),
    "alpaca": (lambda n: {"instruction": "Add one.", "input": str(n), "output": str(n + 1)}, "number", "3"),
    "sharegpt": (
        lambda n: {
            "conversations": [{"from": "human", "value": f"Name {n}?"}, {"from": "gpt", "value": f"name {n}"}]
        },
        "text",
        "name 2",
    ),
    "messages": (
        lambda n: {
            "messages": [
                *CHAT[:1],
                {"role": "user", "content": f"Name {n}?"},
                {"role": "assistant", "content": f"name {n}"},
            ]
        },
        "text",
        "name 2",
    ),
    "completion": (lambda n: {"prompt": f"Name {n}?", "completion": f" name {n}"}, "text", "name 2"),
    "completion, chats": (
        lambda n: {"prompt": CHAT, "completion": [{"role": "assistant", "content": f"name {n}"}]},
        "text",
        "name 2",
    ),
    "prompt": (lambda n: {"prompt": f"Write {n} lines."}, "none", ""),
    "healthbench": (
        lambda n: {"prompt_id": f"h{n}", "prompt": CHAT, "rubrics": [{"criterion": "polite", "points": 5}]},
        "none",
        "",
    ),
    "openlife": (
        lambda n: {
            "id": str(n),
            "data": {
                "Question": f"Which {n}?",
                "Options": dict(zip("ABCD", OPTIONS, strict=True)),
                "Correct Answer": OPTIONS[n % 4],
                "Correct Option": "ABCD"[n % 4],
            },
            "subject_name": "pathology",
        },
        "choice",
        "Asthma",
    ),
    "medqa": (
        lambda n: {
            "question": f"Which {n}?",
            "options": [{"key": key, "value": text} for key, text in zip("ABCD", OPTIONS, strict=True)],
            "answer": OPTIONS[n % 4],
            "answer_idx": "ABCD"[n % 4],
            "meta_info": "step1",
        },
        "choice",
        "Asthma",
    ),
    "medical_o1": (
        lambda n: {
            "Open-ended Verifiable Question": f"Which vitamin {n}?",
            "Ground-True Answer": f"vitamin B{n}",
        },
        "text",
        "Vitamin B2",
    ),
    "medical_o1_sft": (
        lambda n: {"Question": f"Why {n}?", "Complex_CoT": "Let me think.", "Response": f"because of {n}"},
        "text",
        "because of 2",
    ),
    "casehold": (
        lambda n: {
            "citing_prompt": f"See (<HOLDING>) {n}.",
            **{f"holding_{k}": f"holding that {k}" for k in range(5)},
            "label": n % 5,
        },
        "choice",
        "holding that 2",
    ),
    "legalbench": (
        lambda n: {"index": str(n), "text": f"Is clause {n} a waiver?", "answer": ["No", "Yes"][n % 2]},
        "label",
        "No",
    ),
    "finqa": (
        lambda n: {
            "id": f"r{n}",
            "filename": f"AAPL/{n}.pdf",
            "pre_text": ["Revenue grew."],
            "post_text": ["See note 3."],
            "table": [["", "2019"], ["revenue", "$ 10"]],
            "qa": {
                "question": f"What is the growth {n}?",
                "answer": f"{n}.5%",
                "exe_ans": n / 100,
                "program": "divide(1, 2)",
            },
        },
        "number",
        "2.5 %",
    ),
    "tatqa": (
        lambda n: {
            "table": {"uid": f"t{n}", "table": [["", "2019"], ["cost", "7"]]},
            "paragraphs": [{"uid": "p", "order": 1, "text": "In millions."}],
            "questions": [
                {"uid": f"q{n}", "question": f"What is the cost {n}?", "answer": str(n), "scale": "million"}
            ],
        },
        "number",
        "2 million",
    ),
    "convfinqa": (
        lambda n: {
            "id": f"c{n}",
            "pre_text": ["Revenue grew."],
            "post_text": ["."],
            "table": [["", "2019"], ["revenue", "10"]],
            "annotation": {"dialogue_break": [f"What was revenue {n}?"], "exe_ans_list": [float(n)]},
        },
        "number",
        "2",
    ),
    "mbpp": (
        lambda n: {
            "task_id": n,
            "text": f"Add {n}.",
            "code": "def f(): ...",
            "test_list": [f"assert f() == {n}"],
        },
        "none",
        "",
    ),
    "humaneval": (
        lambda n: {
            "task_id": f"HumanEval/{n}",
            "prompt": "def f():\n",
            "canonical_solution": "pass",
            "test": "…",
            "entry_point": "f",
        },
        "none",
        "",
    ),
    "apps": (
        lambda n: {
            "question": f"Print {n}.",
            "solutions": "[]",
            "input_output": "{}",
            "difficulty": "introductory",
        },
        "none",
        "",
    ),
}


def read(rows: list[dict[str, Any]], **mapping: str) -> tuple[str, list[Case], list[CaseError]]:
    numbered = [Row(row, f"rows.jsonl:{line}") for line, row in enumerate(rows, 1)]
    name = recognise(numbered, "auto", mapping, "rows.jsonl")
    return name, *build_cases(numbered, name, mapping)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_published_shape_is_read_as_meant(shape: str) -> None:
    make, kind, right = SHAPES[shape]
    name, cases, errors = read([make(n) for n in range(5)])
    assert name == shape.partition(",")[0]
    assert not errors
    assert len(cases) == 5
    assert {case.gold.kind for case in cases} == {kind}
    if kind == "none":
        assert judge("anything", cases[2]).layer == "no gold answer"
    else:
        assert judge(right, cases[2]).correct
        assert not judge("quite another thing", cases[2]).correct


def test_worked_solutions_become_demonstrations_and_not_gold_answers() -> None:
    _, cases, _ = read([SHAPES["gsm8k"][0](n) for n in range(5)])
    assert cases[2].gold.text == "4"
    assert cases[2].demonstration is not None
    assert cases[2].demonstration.reasoning == "Add.\n2+2=4"
    _, cases, _ = read([SHAPES["medical_o1_sft"][0](n) for n in range(5)])
    assert cases[2].demonstration is not None
    assert cases[2].demonstration.reasoning == "Let me think."


def test_reports_show_their_table_and_stay_together() -> None:
    _, (case, *_), _ = read([SHAPES["finqa"][0](n) for n in range(5)])
    assert "revenue | $ 10" in case.context[1]
    assert case.group == "AAPL/0.pdf"


def test_a_dialogue_is_a_case_for_each_turn_with_the_turns_before_it() -> None:
    row = SHAPES["convfinqa"][0](1)
    row["annotation"] = {"dialogue_break": ["And 2018?", "And the sum?"], "exe_ans_list": [3, 5]}
    _, cases, errors = read([row])
    assert not errors
    assert [case.id for case in cases] == ["c1-0", "c1-1"]
    assert [message.content for message in cases[1].question][1:] == ["3", "And the sum?"]
    assert {case.group for case in cases} == {"c1"}


def test_nested_columns_are_named_by_a_dotted_path() -> None:
    rows = [{"q": {"text": f"Double {n}."}, "meta": f'{{"gold": "{2 * n}"}}'} for n in range(3)]
    name, cases, errors = read(rows, question="q.text", answer="meta.gold")
    assert (name, errors) == ("own", [])
    assert [(case.question, case.gold.value) for case in cases] == [
        ("Double 0.", 0),
        ("Double 1.", 2),
        ("Double 2.", 4),
    ]
    with pytest.raises(GrandRoundsError, match=r"no column `q.txt`"):
        read(rows, question="q.txt", answer="meta.gold")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 40) | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
)


@st.composite
def spoilt(draw: st.DrawFn, make: Make) -> list[dict[str, Any]]:
    """Rows of a shape, one of which lost columns, has others, or holds something else in them."""
    rows = [copy.deepcopy(make(n)) for n in range(4)]
    row = rows[draw(st.integers(1, 3))]
    for name in draw(st.lists(st.sampled_from(sorted(row)), max_size=2, unique=True)):
        if draw(st.booleans()):
            row[name] = draw(VALUES)
        elif isinstance(row[name], str):
            row[name] = row[name][: draw(st.integers(0, len(row[name])))]  # cut off
        else:
            del row[name]
    row.update(draw(st.dictionaries(st.text(max_size=4), VALUES, max_size=2)))
    return rows


@pytest.mark.parametrize("shape", SHAPES)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_spoilt_row_is_read_or_named_and_spoils_no_other(shape: str, data: st.DataObject) -> None:
    _, cases, errors = read(data.draw(spoilt(SHAPES[shape][0])))
    assert len(errors) <= 1 or {error.where for error in errors} == {errors[0].where}
    assert len(cases) + len(errors) >= 4
    for error in errors:
        assert error.where.startswith("rows.jsonl:")
        assert error.what


def test_every_format_has_a_shape_here() -> None:
    elsewhere = {"own", "trl", "phenopackets", "medmcqa", "mediq", "pubmedqa"}  # tests/test_cases_formats.py
    assert formats().keys() - elsewhere == {shape.partition(",")[0] for shape in SHAPES}


SEVERAL = {
    "question": "Which are joint diseases?",
    "options": ["Gout", "Sepsis", "Arthritis"],
    "answer": ["A", "Arthritis"],
}


@pytest.mark.parametrize(
    ("answer", "right", "share"),
    [
        ("A, C", True, 1.0),
        ("C and A", True, 1.0),
        ("A. Gout; C. Arthritis", True, 1.0),
        ("Gout; Arthritis", True, 1.0),
        ("Arthritis\nGout", True, 1.0),
        ("Gout and arthritis", True, 1.0),
        ("- Gout\n- Arthritis", True, 1.0),
        ("A", False, 1 / 2),
        ("Gout; Sepsis; Arthritis", False, 2 / 3),
        ("Sepsis", False, 0.0),
        ("Gout; Scurvy", False, 0.0),  # what names no option spoils the answer
        ("", False, 0.0),
    ],
)
def test_several_right_options_are_met_exactly_or_in_part(answer: str, right: bool, share: float) -> None:
    _, (case,), _ = read([SEVERAL])
    assert (case.gold.kind, case.gold.letters, case.gold.text) == ("choices", ("A", "C"), "Gout; Arthritis")
    verdict = judge(answer, case)
    assert (verdict.correct, verdict.score) == (right, pytest.approx(share))
    one = sample(case, Grammar().render("Both swell joints.", answer or " "))
    assert score("accuracy", one) == float(right)
    assert score("accuracy", one, partial=True) == pytest.approx(share)


@pytest.mark.parametrize("answer", [[], ["A", "A"], ["A", "Gout"], ["D"], ["A", None]])
def test_wrong_lists_of_right_options_are_named(answer: list[Any]) -> None:
    _, cases, (error,) = read([{**SEVERAL, "answer": answer}])
    assert not cases
    assert error.where == "rows.jsonl:1"


def test_several_right_options_are_asked_for_and_read_from_text() -> None:
    _, (case,), _ = read([{**SEVERAL, "answer": '["A", "C"]'}])
    assert case.gold.letters == ("A", "C")
    assert "all options that apply" in ask(case, PromptRecipe())[0].content
    assert judge(gold_text(case), case).correct


@pytest.mark.parametrize(("answer", "text"), [(2, "3"), ("2", "2"), ("C", "3"), (0, "1"), ("0", "1")])
def test_the_number_of_a_choice_is_not_taken_for_its_text(answer: Any, text: str) -> None:
    _, (case,), _ = read([{"question": "How many?", "choices": ["1", "2", "3", "4"], "answer": answer}])
    assert case.gold.text == text
