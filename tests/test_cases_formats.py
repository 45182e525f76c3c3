"""Every format is recognised by its columns and read as its authors mean it; mistakes are named with their place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grandrounds.cases.formats import build_cases, recognise
from grandrounds.cases.load import load_cases
from grandrounds.cases.read import Row
from grandrounds.errors import CaseError, GrandRoundsError
from grandrounds.recipe import CasesRecipe
from grandrounds.recipe_file import shipped_recipes
from grandrounds.types import Answer, Case, CaseBook, Message

DATA = Path(__file__).parents[2] / "shared/data"
published = pytest.mark.skipif(not DATA.is_dir(), reason="the published data are not here")
CHOICE: dict[str, Any] = {"question": "Which?", "options": {"A": "Gout", "B": "Sepsis"}, "answer": "Sepsis"}


def read(*rows: dict[str, Any], name: str = "auto", **mapping: str) -> list[Case]:
    numbered = [Row(row, f"rows.jsonl:{line}") for line, row in enumerate(rows, 1)]
    cases, errors = build_cases(numbered, recognise(numbered, name, mapping, "rows.jsonl"), mapping)
    if errors:
        raise errors[0]
    return cases


def one(**row: Any) -> Case:
    return read(row)[0]


def complaint(*rows: dict[str, Any], **mapping: str) -> GrandRoundsError:
    with pytest.raises(GrandRoundsError) as caught:
        read(*rows, **mapping)
    return caught.value


def book(path: Path, **changes: Any) -> CaseBook:
    return load_cases(CasesRecipe(source=str(path), **changes), seed=0)


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@published
@pytest.mark.parametrize(
    ("file", "count", "name"),
    [
        ("medmcqa_dev.jsonl.gz", 3566, "medmcqa"),
        ("medqa_dev.jsonl.gz", 1272, "medqa"),
        ("mediq_dev.jsonl.gz", 1272, "mediq"),
        ("pubmedqa_train.json.gz", 500, "pubmedqa"),
    ],
)
def test_published_files_are_read_whole(file: str, count: int, name: str) -> None:
    cases = book(DATA / file)
    assert (cases.read, len(cases.train) + len(cases.test)) == (count, count)
    assert (cases.fitted["format"], cases.dropped) == (name, {})
    assert len({case.id for case in (*cases.train, *cases.test)}) == count


@pytest.mark.parametrize("answer", ["Sepsis", "sepsis ", "B", "b", "B. Sepsis", "(b) sepsis"])
def test_a_choice_is_found_by_letter_text_or_both(answer: str) -> None:
    assert one(**{**CHOICE, "answer": answer}).gold == Answer("choice", "Sepsis", letter="B")


def test_an_option_that_begins_with_a_letter_is_no_letter() -> None:
    gold = one(question="Which?", options=["Diabetes", "A disease"], answer="A disease").gold
    assert gold.letter == "B"


def test_options_may_have_notes_beside_them() -> None:
    for notes in ({"B": "fever, chills"}, ["", "fever, chills"], '{"B": "fever, chills"}'):
        assert one(**CHOICE, option_notes=notes).option_notes == {"Sepsis": "fever, chills"}
    assert one(**CHOICE).option_notes == {}


def test_options_may_be_a_list_or_json_and_blanks_are_left_out() -> None:
    for options in (
        ["Gout", "Sepsis", None, " "],
        '["Gout", "Sepsis"]',
        '{"a": "Gout", "b": "Sepsis", "c": ""}',
    ):
        assert one(question="Which?", options=options, answer="Gout").options == {"A": "Gout", "B": "Sepsis"}


@pytest.mark.parametrize(
    ("row", "gold"),
    [
        ({"answer": "yes", "kind": "label"}, Answer("label", "yes")),
        ({"answer": ["gout", "podagra"]}, Answer("text", "gout", synonyms=("podagra",))),
        ({"answer": "gout", "synonyms": "podagra; g"}, Answer("text", "gout", synonyms=("podagra", "g"))),
        ({"answer": "5 mg", "kind": "number"}, Answer("number", "5 mg", value=5.0, unit="mg")),
        ({"answer": "7", "unit": "mg", "tolerance": "0.1"}, Answer("number", "7", None, (), 7.0, "mg", 0.1)),
        ({"answer": "1,250", "kind": "number"}, Answer("number", "1,250", value=1250.0)),
        ({"answer": "2 days of rest"}, Answer("text", "2 days of rest")),
    ],
)  # fmt: skip
def test_answers_are_of_the_kind_they_look_like(row: dict[str, Any], gold: Answer) -> None:
    assert one(question="What?", **row).gold == gold


def test_a_bare_number_must_be_met_exactly() -> None:
    gold = one(question="17 * 6?", answer=102).gold
    assert (gold.kind, gold.value) == ("number", 102.0)
    assert gold.tolerance < 1e-3


def test_our_own_columns_become_the_case() -> None:
    case = one(
        **CHOICE, id="x1", facts=["fever", "no rash"], context="Note.", tags={"sex": "female"}, group="p7",
        reasoning="Because.", ward="7b",
    )  # fmt: skip
    assert (case.id, case.facts, case.context) == ("x1", ("fever", "no rash"), ("Note.",))
    assert (case.tags, case.group, case.columns) == ({"sex": "female"}, "p7", {"ward": "7b"})
    assert case.demonstration is not None
    assert case.demonstration.answer == "Sepsis"


def test_trl_prompts_may_be_text_or_messages() -> None:
    assert one(prompt="2+2?", solution="4").gold.value == 4
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    case = one(prompt=chat, ground_truth="because")
    assert case.question == (Message("system", "Be brief."), Message("user", "Why?"))


def test_columns_are_mapped_by_the_recipe() -> None:
    case = read({"Frage": "Was?", "Antwort": "Gicht", "other": 1}, question="Frage", answer="Antwort")[0]
    assert (case.question, case.gold.text, case.columns) == ("Was?", "Gicht", {"other": 1})


MEDMCQA: dict[str, Any] = {
    "question": "Which?",
    "opa": "a",
    "opb": "b",
    "opc": "c",
    "opd": "d",
    "exp": "Since.",
    "id": "m",
}


def test_medmcqa_counts_from_one_and_the_hubs_copy_from_zero() -> None:
    assert [case.gold.letter for case in read({**MEDMCQA, "cop": 1}, {**MEDMCQA, "cop": 4, "id": "n"})] == [
        "A",
        "D",
    ]
    assert [case.gold.letter for case in read({**MEDMCQA, "cop": 0}, {**MEDMCQA, "cop": 3, "id": "n"})] == [
        "A",
        "D",
    ]


@published
def test_mediq_keeps_facts_without_their_numbers_and_knows_the_patient() -> None:
    case = next(
        case for case in (lambda b: [*b.train, *b.test])(book(DATA / "mediq_dev.jsonl.gz")) if case.id == "0"
    )
    assert case.facts[:2] == ("Patient is a 21-year-old male.", "Patient is sexually active.")
    assert case.tags == {"age": "18 to 39", "sex": "male", "specialty": "Urology"}


@published
def test_explanations_become_demonstrations() -> None:
    for file, count in (("medmcqa_dev.jsonl.gz", 1900), ("pubmedqa_train.json.gz", 500)):
        cases = book(DATA / file, test_fraction=0).train
        assert sum(case.demonstration is not None for case in cases) == count


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"question": "Why?", "answr": "so"}, "Did you mean `answr`"),
        ({"qestion": "Why?", "answer": "so"}, "Did you mean `qestion`"),
        ({"question": "Why?", "answer": " "}, "empty"),
        ({"question": "", "answer": "so"}, "`question` is empty"),
        ({**CHOICE, "answer": None}, "empty"),
        ({**CHOICE, "answer": "Sepsis syndrome"}, "not among the options"),
        ({**CHOICE, "answer_letter": "C"}, "not among the options"),
        ({**CHOICE, "answer_letter": "A"}, "not what option A says"),
        ({**CHOICE, "options": {"A": "Gout"}}, "1 options"),
        ({**CHOICE, "option_notes": {"C": "fever"}}, "a note for C, which is no option"),
        (
            {**CHOICE, "options": ["Gout", "Sepsis", "Gout"], "option_notes": ["toe", "fever", "heel"]},
            "the same text",
        ),
        ({**CHOICE, "options": "[broken"}, "not valid"),
        ({"question": "Why?", "answer": "so", "kind": "essay"}, "no answer kind"),
        ({"question": "Why?", "answer": "so", "kind": "number"}, "no number"),
        ({"question": "Why?", "answer": "5", "tolerance": "wide"}, "should be a number"),
        ({"prompt": [{"role": "assistant", "content": "x"}], "answer": "so"}, "last message"),
        ({"prompt": [{"role": "doctor", "content": "x"}], "answer": "so"}, "role"),
        ({**MEDMCQA, "cop": 5}, "`cop` is 5"),
        ({**MEDMCQA, "cop": None}, "`cop` is None"),
        ({"QUESTION": "Why?", "CONTEXTS": [], "final_decision": "perhaps"}, "not one of yes, no, maybe"),
        ({"x": 1, "y": 2}, "not recognised"),
    ],
)
def test_mistakes_in_a_row_are_named_with_its_place(row: dict[str, Any], words: str) -> None:
    error = complaint(row)
    assert error.where == "rows.jsonl:1"
    assert words in str(error)
    assert error.hint


def test_an_id_used_twice_names_both_places() -> None:
    error = complaint({**CHOICE, "id": 7}, {**CHOICE, "id": "7"})
    assert error.where == "rows.jsonl:2"
    assert "rows.jsonl:1" in error.what


def test_a_mapping_to_what_is_not_there_is_an_error() -> None:
    assert "Did you mean `Frage`" in str(complaint({"Frage": "?", "answer": "so"}, question="Frge"))
    assert "Did you mean `question`" in str(complaint(CHOICE, qestion="answer"))


TEXTS = st.text(st.characters(codec="utf-8"), max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
NAMES = (
    "id",
    "options",
    "answer_letter",
    "kind",
    "synonyms",
    "unit",
    "tolerance",
    "facts",
    "context",
    "tags",
    "group",
)


@given(st.dictionaries(st.sampled_from(NAMES), JSON), JSON, JSON)
def test_any_row_is_a_case_or_a_clear_error(row: dict[str, Any], question: Any, answer: Any) -> None:
    try:
        gold = one(**{**row, "question": question, "answer": answer}).gold.text
    except CaseError as error:
        gold = error.where
    assert gold


def test_splits_follow_the_group_and_not_the_order(tmp_path: Path) -> None:
    rows = [{"question": f"Q{n}?", "answer": f"a{n}", "id": n, "group": f"g{n % 40}"} for n in range(200)]
    forward, backward = book(lines(tmp_path / "a.jsonl", rows)), book(lines(tmp_path / "b.jsonl", rows[::-1]))
    assert {case.id for case in forward.test} == {case.id for case in backward.test}
    assert {case.group for case in forward.test}.isdisjoint(case.group for case in forward.train)
    assert 0 < len(forward.test) < 80


def test_copies_of_a_question_stay_on_one_side(tmp_path: Path) -> None:
    rows = [{"question": f"Question {n % 50}?", "answer": "so"} for n in range(200)]
    cases = book(lines(tmp_path / "a.jsonl", rows), test_fraction=0.5)
    assert {case.question for case in cases.test}.isdisjoint(case.question for case in cases.train)
    assert cases.test


def test_a_test_source_is_the_test_split_but_for_groups_trained_on(tmp_path: Path) -> None:
    train = lines(
        tmp_path / "train.jsonl", [{"question": f"Q{n}?", "answer": "a", "group": n} for n in range(5)]
    )
    test = lines(
        tmp_path / "test.jsonl", [{"question": f"T{n}?", "answer": "a", "group": n} for n in range(3, 9)]
    )
    cases = book(train, test_source=str(test))
    assert (len(cases.train), len(cases.test), cases.read) == (5, 4, 11)
    assert sum(cases.dropped.values()) == 2
    assert {case.id for case in cases.train}.isdisjoint(case.id for case in cases.test)
    with pytest.raises(CaseError, match="no test cases are left"):
        book(train, test_source=str(train))


def test_a_limit_reads_so_many_cases(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", [{"question": f"Q{n}?", "answer": "a"} for n in range(30)])
    assert book(path, limit=7).read == 7


def test_a_held_out_set_of_the_clinic_can_be_the_test_split() -> None:
    recipe = CasesRecipe(source="clinic:Overlap fails", clinic_train=20, clinic_test=10)
    cases = load_cases(recipe, seed=0)
    assert cases.test == cases.held_out["overlap fails"]
    with pytest.raises(CaseError, match="Did you mean `overlap fails`"):
        load_cases(recipe.model_copy(update={"source": "clinic:overlap fail"}), seed=0)


def test_the_rows_that_the_template_for_own_cases_shows_are_read_as_it_says(tmp_path: Path) -> None:
    shown = [
        line[4:]
        for line in shipped_recipes()["own-data"].read_text(encoding="utf-8").splitlines()
        if line.startswith('  #   {"id"')
    ]
    path = tmp_path / "cases.jsonl"
    path.write_text("\n".join(shown))
    cases = load_cases(CasesRecipe(source=str(path), test_fraction=0), seed=0).train
    assert [case.gold.kind for case in cases] == ["choice", "number"]
    assert (cases[1].gold.value, cases[1].gold.unit) == (291.0, "mOsm/kg")
