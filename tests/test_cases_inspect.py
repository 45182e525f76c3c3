"""The report on a source shows what would spoil a run."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from grandrounds.cases.identifiers import find_identifiers
from grandrounds.cases.inspect import inspect_cases
from grandrounds.cases.overlap import duplicates, leakage
from grandrounds.cli.app import app
from grandrounds.report.cases_table import print_rendered
from grandrounds.sampling.rendered import Rendered
from grandrounds.types import Answer, Case, CaseBook

DATA = Path(__file__).parents[2] / "shared/data"
published = pytest.mark.skipif(not DATA.is_dir(), reason="the published data are not here")
LONG = "a man of fifty has had fever and night sweats for three weeks and now coughs blood"


def case(identity: str, question: str, answer: str = "so", **changes: Any) -> Case:
    return Case(identity, question, Answer("text", answer), **changes)


def choice(identity: str, letter: str, *options: str) -> Case:
    texts = dict(zip("ABCD", options, strict=False))
    return Case(identity, f"Question {identity}?", Answer("choice", texts[letter], letter=letter), texts)


def shown(*arguments: str) -> dict[str, Any]:
    result = CliRunner().invoke(app, ["cases", *arguments, "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


def test_copies_are_found_whatever_their_case_and_spacing() -> None:
    found = duplicates(
        [case("1", "Why  now?"), case("2", "why now"), case("3", "Why now?", "another answer")]
    )
    assert [(pair.case, pair.other) for pair in found] == [("2", "1")]


def test_cases_of_the_same_facts_and_answer_are_copies() -> None:
    facts = ("fever", "rash")
    assert duplicates([case("1", "Girl.", facts=facts), case("2", "Boy.", facts=facts[::-1])])


def test_a_test_case_that_repeats_a_training_case_is_shown_with_it() -> None:
    train = [case("a", LONG), case("b", "something else entirely that is long enough to have grams")]
    report = leakage(
        train, [case("x", LONG.upper()), case("y", f"{LONG} and has lost weight"), case("z", "Short?")]
    )
    assert (report.exact, report.contained, report.compared) == (1, 2, 2)
    assert [(pair.case, pair.other) for pair in report.pairs] == [("x", "a"), ("y", "a")]
    assert report.pairs[1].shared == LONG
    assert report.pairs[1].containment >= 0.5


def test_a_turn_of_phrase_is_no_leak() -> None:
    phrase = "which of the following is the most likely diagnosis in this patient"
    assert leakage([case(str(n), phrase) for n in range(40)], [case("x", phrase, "other")]).contained == 0


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("call 617-555-0123 today", "phone number"),
        ("call +1 (617) 555-0123", "phone number"),
        ("write to jo.doe@clinic.example.org", "e-mail address"),
        ("SSN 123-45-6789", "social security number"),
        ("MRN: 00482913", "medical record number"),
        ("DOB 03/14/1962", "birth date"),
        ("born on March 14, 1962", "birth date"),
        ("Mrs. Smith coughs", "name"),
    ],
)
def test_what_looks_like_an_identifier_is_shown_masked(text: str, kind: str) -> None:
    found = find_identifiers([("x", text)])
    assert list(found) == [kind]
    example = found[kind].examples[0][1]
    assert not any(character.isdigit() for character in example)
    assert "mith" not in example
    assert "doe" not in example


def test_findings_and_doses_are_no_identifiers() -> None:
    text = (
        "BP 120/80, pulse 99/min, 225,000/mm3, 1.5-2.5 mg, HP:0000348, 2024-03-05, 37.8 (100.0), Miss rate 5"
    )
    assert find_identifiers([("x", text)]) == {}


def test_shortcuts_are_measured() -> None:
    cases = [choice("1", "A", "long one", "b"), choice("2", "A", "a", "long one"), choice("3", "B", "a", "b")]
    report = inspect_cases(CaseBook(train=cases, test=[], read=3))
    rates = {shortcut.name: shortcut.accuracy for shortcut in report.shortcuts}
    assert rates == pytest.approx({"chance": 1 / 2, "majority letter": 2 / 3, "longest option": 1.5 / 3})
    assert report.letters == {"A": 2, "B": 1}


def test_lengths_are_in_the_unit_that_is_said() -> None:
    book = CaseBook(train=[case("1", "four words in here")], test=[], read=1)
    assert inspect_cases(book).lengths["question"].longest == 4
    counted = inspect_cases(book, lengths=lambda texts: [len(text) for text in texts])
    assert (counted.unit, counted.lengths["question"].longest) == ("tokens", 18)


@published
@pytest.mark.parametrize(
    ("file", "count"),
    [
        ("phenopackets.jsonl.gz", 8588),
        ("medmcqa_dev.jsonl.gz", 3566),
        ("medqa_dev.jsonl.gz", 1272),
        ("mediq_dev.jsonl.gz", 1272),
        ("pubmedqa_train.json.gz", 500),
    ],
)
def test_the_command_counts_what_the_authors_count(file: str, count: int) -> None:
    report = shown(str(DATA / file))
    assert report["count"] == count
    assert sum(report["splits"].values()) + sum(report["dropped"].values()) == count


@published
def test_always_answering_a_is_a_known_shortcut_of_medmcqa() -> None:
    shortcuts = {cut["name"]: cut for cut in shown(str(DATA / "medmcqa_dev.jsonl.gz"))["shortcuts"]}
    assert shortcuts["majority letter"]["detail"] == "always A"
    assert shortcuts["majority letter"]["accuracy"] == pytest.approx(0.32, abs=0.005)


@published
def test_naive_bayes_is_shown_for_phenopackets() -> None:
    report = shown(
        str(DATA / "phenopackets.jsonl.gz"), "--set", "cases.test_fraction=0.3", "--set", "cases.options=5"
    )
    shortcuts = {cut["name"]: cut["accuracy"] for cut in report["shortcuts"]}
    assert shortcuts["naive Bayes"] == pytest.approx(0.9567, abs=0.001)
    assert set(report["letters"]) == set("ABCDE")


def test_the_clinic_is_shown_with_its_shortcuts() -> None:
    report = shown("clinic", "--set", "cases.clinic_train=60", "--set", "cases.clinic_test=20")
    assert report["count"] == 60 + 20 * 6
    assert {"prior", "overlap"} <= {cut["name"] for cut in report["shortcuts"]}


def test_the_table_says_the_same(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text("id,question,answer\n1,Is Mr. Smith ill?,yes\n2,Is he well?,no\n")
    result = CliRunner().invoke(app, ["cases", str(path)])
    assert result.exit_code == 0, result.output
    assert "2 cases read (own)" in result.output
    assert "M•" in result.output
    assert "Smith" not in result.output


def test_parts_of_letters_in_a_prompt_are_explained() -> None:
    def shown(*tokens: str) -> str:
        out = io.StringIO()
        print_rendered(Console(file=out, width=80), "The case", Rendered(tokens, "", ()))
        return out.getvalue()

    assert "a part of a letter that takes several tokens" in shown("f", "\ufffd", "\ufffd", "r")
    assert "a part of a letter" not in shown("f", "ü", "r")
