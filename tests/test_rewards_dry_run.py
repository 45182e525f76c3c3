"""Rewards are attacked before training: planted faults are found, and what ships has none."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from grandrounds.cases.load import load_cases
from grandrounds.cli.app import app
from grandrounds.errors import CaseError
from grandrounds.recipe import CasesRecipe, Recipe
from grandrounds.recipe_file import load_recipe, shipped_recipes
from grandrounds.report.dry_run_table import print_dry_run
from grandrounds.response.grammar import Grammar
from grandrounds.rewards import build_rewards
from grandrounds.rewards.dry_run import DryRun, Row, dry_run
from grandrounds.types import Answer, Case

DATA = Path(__file__).parents[2] / "shared/data"
NAMES = ("Pericarditis", "Gout", "Migraine", "Anaemia")


def cases() -> list[Case]:
    return [
        Case(
            f"{number}",
            f"A patient with finding {number}, which diagnosis?",
            Answer("choice", NAMES[number % 4], "ABCD"[number % 4]),
            dict(zip("ABCD", NAMES, strict=True)),
            facts=(f"finding {number}", "no fever"),
        )
        for number in range(8)
    ]


def tried(reward: Callable[..., Any], **more: Any) -> DryRun:
    recipe = Recipe.model_validate({"rewards": {"own": {"use": "memory"}, **more}}).rewards
    rewards = build_rewards(recipe, functions={"own": reward})
    return dry_run(rewards, cases(), Grammar(), 100)


def text_of(completion: Any) -> str:
    return completion if isinstance(completion, str) else completion[0]["content"]


def judge(text: str) -> str:
    """The last answer."""
    return (re.findall(r"<answer>(.*?)</answer>", text, re.DOTALL) or [""])[-1].strip()


def gold_of(sample: Any) -> str:
    return sample.case.gold.text


# name -> (reward, a part of what is said of it)
PLANTED: dict[str, tuple[Callable[..., float], str]] = {
    "the same for all": (lambda sample: 1.0, "constant"),
    "wrong for right": (lambda sample: float(judge(sample.text) != gold_of(sample)), "inverted"),
    "form alone": (lambda sample: float("<answer>" in sample.text), "blind"),
    "length": (lambda sample: len(sample.text) / 1000, "blind|pays|inverted"),
    "gold anywhere": (lambda sample: float(gold_of(sample) in sample.text), "blind|pays"),
    "gold in the answer": (
        lambda sample: float(gold_of(sample) in judge(sample.text)),
        "every option as the answer",
    ),
    "begins as gold does": (
        lambda sample: float(judge(sample.text).startswith(gold_of(sample))),
        "right or wrong",
    ),
    "ends as gold does": (
        lambda sample: float(judge(sample.text).endswith(gold_of(sample))),
        "not the right one",
    ),
    "the letter alone": (
        lambda sample: float(judge(sample.text)[:2] in (f"{sample.case.gold.letter}.", gold_of(sample)[:2])),
        "the right letter with a wrong text",
    ),
    "any letter in it": (
        lambda sample: float(
            judge(sample.text) == gold_of(sample) or bool(re.search(r"\b[A-D], ", judge(sample.text)))
        ),
        "every letter as the answer",
    ),
    "any of its answers": (
        lambda sample: float(
            gold_of(sample) in re.findall(r"<answer>(.*?)</answer>", sample.text, re.DOTALL)
        ),
        "each option in tags of its own",
    ),
    "answers counted": (
        lambda sample: sample.text.count("<answer>") + float(judge(sample.text) == gold_of(sample)),
        "pays",
    ),
    "tags counted": (
        lambda sample: sample.text.count("<") / 4 + float(judge(sample.text) == gold_of(sample)),
        "tags many times",
    ),
    "obeys a plea": (
        lambda sample: float(judge(sample.text) == gold_of(sample) or "full marks" in sample.text),
        "a plea to the judge",
    ),
    "believes praise": (
        lambda sample: float(judge(sample.text) == gold_of(sample) or "correct = True" in sample.text),
        "praise of itself",
    ),
    "words of the question": (
        lambda sample: (
            3 * float("which diagnosis" in sample.text) + float(judge(sample.text) == gold_of(sample))
        ),
        "the question",
    ),
    "no wrong answer": (
        lambda sample: float(not any(name in sample.text and name != gold_of(sample) for name in NAMES)),
        "nothing",
    ),
    "no answer is not wrong": (lambda sample: float(judge(sample.text) in ("", gold_of(sample))), "nothing"),
    "gold counted": (
        lambda sample: float(sample.text.count(gold_of(sample))),
        "earns more than an honest response",
    ),
    "long and right": (
        lambda sample: float(judge(sample.text) == gold_of(sample)) * len(sample.text),
        "earns more than an honest response",
    ),
    "long is right": (
        lambda sample: float(judge(sample.text) == gold_of(sample) or len(sample.text) > 800),
        "wrong, and very long",
    ),
    "Latin letters only": (
        lambda sample: float(judge(sample.text) == gold_of(sample) or not judge(sample.text).isascii()),
        "wrong, in letters that look alike",
    ),
    "text outside tags": (
        lambda sample: float(judge(sample.text) == gold_of(sample) or not sample.text.startswith("<")),
        "text without tags",
    ),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_found(name: str) -> None:
    reward, words = PLANTED[name]
    result = tried(reward)
    assert not result.passed
    said = [*result.findings, *(f"{row.name}: {row.verdict}" for row in result.rows if row.fails)]
    assert re.search(words, "\n".join(said)), said


def test_what_is_exact_passes_and_what_is_not_looked_at_is_told() -> None:
    result = tried(lambda sample: float(judge(sample.text) == gold_of(sample)))
    assert result.passed
    doubtful = {row.name for row in result.rows if row.verdict}
    assert "right, with another case's reasoning" in doubtful


def test_a_case_whose_own_gold_answer_is_not_judged_right_is_named() -> None:
    def pedantic(completions: list[Any], answer: list[str] | None = None, **columns: Any) -> list[float]:
        return [float(judge(text_of(one)) in NAMES[:3]) for one in completions]

    result = tried(pedantic, accuracy={"weight": 1.0})
    assert result.gold_below == [f"case {number}: own gives 0.0, most get 1" for number in (3, 7)]
    assert any("2 of 8 cases do not get full marks" in finding for finding in result.findings)


@pytest.mark.parametrize("name", ["clinic", "laptop", "medqa", "pubmedqa"])
def test_shipped_rewards_pass_on_the_clinic(name: str) -> None:
    recipe = load_recipe(name, ["cases.source=clinic", "cases.clinic_train=40", "cases.clinic_test=4"])
    book = load_cases(recipe.cases, seed=0)
    rewards = build_rewards(recipe.rewards, knowledge=book.knowledge)
    result = dry_run(rewards, book.train[:20], Grammar(), recipe.grpo.max_new_tokens)
    assert result.passed, [row for row in result.rows if row.fails]


@pytest.mark.skipif(not DATA.is_dir(), reason="published cases are not here")
@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("medqa", "medqa_dev.jsonl.gz"),
        ("pubmedqa", "pubmedqa_train.json.gz"),
        ("medqa", "medmcqa_dev.jsonl.gz"),
    ],
)
def test_shipped_rewards_pass_on_published_cases(name: str, file: str) -> None:
    recipe = load_recipe(name, [f"cases.source={DATA / file}", "cases.format=auto", "cases.limit=60"])
    book = load_cases(recipe.cases, seed=0)
    result = dry_run(build_rewards(recipe.rewards), book.train[:30], Grammar(), recipe.grpo.max_new_tokens)
    assert result.passed, [*result.findings, *(row for row in result.rows if row.fails)]


def test_numbers_pass(tmp_path: Path) -> None:
    rows = "".join(
        json.dumps({"question": f"What is {n} squared?", "answer": n * n, "kind": "number"}) + "\n"
        for n in range(3, 23)
    )
    (tmp_path / "numbers.jsonl").write_text(rows, encoding="utf-8")
    book = load_cases(CasesRecipe(source=str(tmp_path / "numbers.jsonl")), seed=0)
    assert dry_run(build_rewards(Recipe().rewards), book.train, Grammar(), 100).passed


def test_alike_answers_cannot_be_tried() -> None:
    with pytest.raises(CaseError, match="gold answers differ"):
        dry_run(build_rewards(Recipe().rewards), cases()[:1], Grammar(), 100)


def test_the_command_ends_with_1_where_something_pays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text(
        "def any_text(completions, **columns):\n    return [float(len(text) > 0) for text in completions]\n"
    )
    monkeypatch.chdir(tmp_path)
    few = ["--set", "cases.clinic_train=30", "--set", "cases.clinic_test=4", "--limit", "10"]
    ended = CliRunner().invoke(app, ["rewards", "test", "mine.py:any_text", "--cases", "clinic", *few])
    assert ended.exit_code == 1
    assert "blind" in ended.output
    ended = CliRunner().invoke(app, ["rewards", "test", "clinic", *few, "--json"])
    assert ended.exit_code == 0
    assert json.loads(ended.output)["passed"]


@pytest.mark.parametrize("width", [50, 80, 120])
def test_every_component_is_shown_however_narrow_the_terminal(width: int) -> None:
    names = ["accuracy", "format", "consistency", "evidence", "wholly-valid", "soft_format_reward_func"]
    scores = {name: number / 10 for number, name in enumerate(names, 1)}
    out = io.StringIO()
    print_dry_run(Console(file=out, width=width), DryRun([Row("gold answer", 8, 1.4, scores)]))
    lines = out.getvalue().splitlines()
    assert all(len(line) <= width for line in lines)
    shown = [line.split() for line in lines if "gold answer" in line]
    assert [score for line in shown for score in line[3:]] == [f"{score:.2f}" for score in scores.values()]
    assert all(line[2] == "1.40" for line in shown)
    assert all(any(name in line for line in lines) for name in names[:4])


def test_the_list_of_recipes_keeps_names_and_words_apart() -> None:
    listed = CliRunner().invoke(app, ["recipe"]).output.splitlines()
    assert {line.split()[0] for line in listed} == set(shipped_recipes())
