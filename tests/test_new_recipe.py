"""`grandrounds init`: what it finds out about cases, the recipe that it writes, and what it refuses."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import tiny_model_folder

from grandrounds.cases.formats.fields import option_letter
from grandrounds.cases.formats.guess import guessed_columns
from grandrounds.cases.load import load_cases
from grandrounds.cli import main
from grandrounds.errors import CaseError, GrandRoundsError, RecipeError
from grandrounds.new_recipe import NewRecipe, new_recipe
from grandrounds.recipe_file import load_recipe


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    tiny_model_folder(folder, "llama")
    return str(folder)


def rows(count: int = 40, **columns: Any) -> list[dict[str, Any]]:
    """Cases with two options, the second right in a fifth of them."""
    made = []
    for number in range(count):
        letter = "B" if number % 5 == 0 else "A"
        row = {
            "question": f"Patient {number} has a fever. What is it?",
            "options": ["flu", "gout"],
            "answer": letter,
        }
        made.append(
            row | {name: value(number) if callable(value) else value for name, value in columns.items()}
        )
    return made


def written(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def made(tmp_path: Path, model: str, of: list[dict[str, Any]], **more: Any) -> NewRecipe:
    return new_recipe(written(tmp_path / "mine.jsonl", of), model, **more)


def test_the_recipe_reads_back_as_what_was_found(tmp_path: Path, model: str) -> None:
    new = made(tmp_path, model, rows())
    (tmp_path / "mine.yaml").write_text(new.text)
    recipe = load_recipe(tmp_path / "mine.yaml")
    assert recipe == new.recipe
    assert (recipe.name, recipe.policy.model) == ("mine", model)
    assert recipe.cases.balance == "label"  # four fifths of the answers are A
    assert set(recipe.rewards) == {"accuracy", "format", "consistency"}
    assert recipe.sft.steps == 0
    assert len(load_cases(recipe.cases, seed=recipe.seed).train) > 30
    assert "# one answer is right in 80.0 % of the cases" in new.text
    assert len({case.id for case in new.shown}) == 3


def test_demonstrations_bring_a_warm_up_and_room_for_as_long_a_response(tmp_path: Path, model: str) -> None:
    long = made(tmp_path, model, rows(reasoning="Fever, so it is the flu. " * 40)).recipe
    short = made(tmp_path, model, rows(reasoning="Fever.")).recipe
    assert long.sft.steps == short.sft.steps == 60
    assert long.grpo.max_new_tokens > 300 > short.grpo.max_new_tokens


def test_facts_bring_brief_demonstrations_and_evidence(tmp_path: Path, model: str) -> None:
    recipe = made(tmp_path, model, rows(facts=["fever", "cough"])).recipe
    assert (recipe.cases.demonstrations, recipe.sft.steps) == ("brief", 60)
    assert "evidence" in recipe.rewards


def test_columns_with_other_names_are_guessed_and_said(tmp_path: Path, model: str) -> None:
    other = [
        {
            "Vignette": row["question"],
            "option_a": "flu",
            "option_b": "gout",
            "correct": row["answer"],
            "why": "Fever.",
        }
        for row in rows()
    ]
    new = made(tmp_path, model, other)
    assert new.recipe.cases.columns == {"question": "Vignette", "answer": "correct", "reasoning": "why"}
    assert "`correct` is read as the answer" in new.notes[0]
    case = load_cases(new.recipe.cases, seed=0).train[0]
    assert case.options == {"A": "flu", "B": "gout"}
    assert case.gold.kind == "choice"


def test_a_column_that_only_the_user_can_know_is_asked_for(tmp_path: Path, model: str) -> None:
    other = [{"what happened": row["question"], "truth": "flu"} for row in rows()]
    with pytest.raises(CaseError, match="not recognised") as refused:
        made(tmp_path, model, other)
    assert "cases.columns.answer" in refused.value.hint
    named = ["cases.columns.question=what happened", "cases.columns.answer=truth"]
    assert made(tmp_path, model, other, overrides=named).recipe.cases.columns["answer"] == "truth"


@pytest.mark.parametrize(
    ("domain", "rewards"),
    [
        ("legal", {"accuracy", "citations", "format", "consistency"}),
        ("finance", {"accuracy", "figures", "format", "consistency"}),
        ("mathematics", {"math", "format", "consistency"}),
        ("medical", {"accuracy", "format", "consistency"}),
    ],
)
def test_a_domain_brings_its_rewards(tmp_path: Path, model: str, domain: str, rewards: set[str]) -> None:
    assert set(made(tmp_path, model, rows(), domain=domain).recipe.rewards) == rewards


def test_cases_without_gold_answers_are_told_of(tmp_path: Path, model: str) -> None:
    new = made(tmp_path, model, [{"prompt": f"Write to patient {number}."} for number in range(30)])
    assert any("no gold answers" in note for note in new.notes)
    assert "accuracy" not in new.recipe.rewards


@pytest.mark.parametrize(
    ("more", "error", "what"),
    [
        ({"domain": "astrology"}, RecipeError, "no domain `astrology`"),
        ({"overrides": ["rounds=3"]}, RecipeError, "no key of the section `cases`"),
        ({"overrides": ["cases.columns.answer=nothing"]}, CaseError, "no column `nothing`"),
    ],
)
def test_wrong_words_are_refused(
    tmp_path: Path, model: str, more: dict[str, Any], error: type[GrandRoundsError], what: str
) -> None:
    with pytest.raises(error, match=what):
        made(tmp_path, model, rows(), **more)


def test_the_command_shows_prompts_and_keeps_a_file_that_is_there(
    tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["grandrounds", "init", written(tmp_path / "mine.jsonl", rows()), model]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert printed.count("exactly as the model will see it") == 3
    assert "grandrounds train mine.yaml" in printed
    before = (tmp_path / "mine.yaml").read_text()
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code != 0
    assert "there is such a file already" in capsys.readouterr().err
    assert (tmp_path / "mine.yaml").read_text() == before


@given(st.text(max_size=12))
def test_only_names_of_options_are_read_as_options(name: str) -> None:
    letter = option_letter(name)
    assert letter is None or (len(letter) == 1 and letter.isupper())


@pytest.mark.parametrize(
    ("name", "letter"),
    [
        ("A", "A"),
        ("a", None),
        ("option_b", "B"),
        ("Choice 3", "C"),
        ("opt-d", "D"),
        ("options", None),
        ("choice0", None),
    ],
)
def test_options_in_columns(name: str, letter: str | None) -> None:
    assert option_letter(name) == letter


@given(
    st.lists(st.dictionaries(st.text(max_size=8), st.one_of(st.text(), st.integers(), st.none())), max_size=4)
)
def test_a_guess_names_columns_that_are_there_once_each(found: list[dict[str, Any]]) -> None:
    guess = guessed_columns(found)
    assert set(guess.values()) <= set(found[0] if found else ())
    assert len(set(guess.values())) == len(guess)


def shown_by(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> bool:
    """Runs a command; whether it ended well."""
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(SystemExit) as ended:
        main()
    return not ended.value.code


def test_the_commands_to_go_on_with_run_as_they_are_printed(
    tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names with spaces are quoted, and every setting that was given is there."""
    monkeypatch.chdir(tmp_path)
    stories = [{"case story": f"What is wrong with {n}?", "the verdict": "AB"[n % 2]} for n in range(20)]
    written(tmp_path / "my cäses.jsonl", [*stories, {"the verdict": "A"}])
    columns = ["--set", "cases.columns.question=case story", "--set", "cases.columns.answer=the verdict"]
    asked = [
        "init",
        "my cäses.jsonl",
        model,
        *columns,
        "--set",
        "cases.bad_rows=skip",
        "--out",
        "my own.yaml",
    ]
    assert shown_by(["grandrounds", *asked], monkeypatch)
    out = capsys.readouterr().out
    assert "Left out: my cäses.jsonl:21: there is no column `case story`" in out
    steps = [shlex.split(line) for line in out.split("Next:\n")[1].splitlines()]
    assert [step[-1] for step in steps[1:]] == ["my own.yaml"] * 3
    text = (tmp_path / "my own.yaml").read_text(encoding="utf-8")
    assert shlex.split(text.splitlines()[1].removeprefix("# ")) == steps[0]
    assert load_recipe(tmp_path / "my own.yaml").name == "my-cases"
    assert shown_by(steps[0], monkeypatch)
    assert "20 kept" in capsys.readouterr().out
