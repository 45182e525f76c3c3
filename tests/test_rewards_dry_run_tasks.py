"""Rewards of every kind of task are attacked: those shipped have no fault, and planted ones are found."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from code_support import sandbox
from judge_support import endpoint, verdicts
from small_tasks import TASKS

from grandrounds.cases.load import load_cases
from grandrounds.domains.code.attacks import ALL_SHOWN, HARD_CODED, solution_of
from grandrounds.domains.code.task import program_of
from grandrounds.recipe import CasesRecipe, RewardRecipe
from grandrounds.response.grammar import Grammar
from grandrounds.rewards import build_rewards
from grandrounds.rewards import dry_run as module
from grandrounds.rewards.dry_run import DryRun, dry_run
from grandrounds.types import Case

NEEDS = {"mathematics": "math_verify"}


@pytest.fixture(autouse=True)
def untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else the machine does meanwhile."""
    monkeypatch.setattr(module, "SLOW_SECONDS", float("inf"))


@pytest.fixture
def brief_attacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each attack on one case: a program that never ends takes all of its time."""
    monkeypatch.setattr(module, "LONGEST_ATTACK", 0.0)


def cases_of(task: str, folder: Path) -> list[Case]:
    file = folder / f"{task}.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in TASKS[task][1]), encoding="utf-8")
    return list(load_cases(CasesRecipe(source=str(file), test_fraction=0), seed=0).train)


def tried(specs: dict[str, Any], cases: list[Case], **functions: Callable[..., Any]) -> DryRun:
    recipes = {name: RewardRecipe.model_validate(spec) for name, spec in specs.items()}
    rewards = build_rewards(recipes, functions=functions)
    try:
        return dry_run(rewards, cases, Grammar(), 200)
    finally:
        rewards.close()


def failing(result: DryRun) -> list[str]:
    return [*result.findings, *(f"{row.name}: {row.verdict}" for row in result.rows if row.fails)]


@pytest.mark.parametrize("task", [task for task in TASKS if task != "code"])
def test_shipped_rewards_pass(task: str, tmp_path: Path) -> None:
    if task in NEEDS and find_spec(NEEDS[task]) is None:
        pytest.skip(f"{NEEDS[task]} is not installed")
    result = tried(TASKS[task][0], cases_of(task, tmp_path))
    assert result.passed, failing(result)


@pytest.mark.usefixtures("brief_attacks")
def test_the_rewards_of_code_pass(tmp_path: Path) -> None:
    sandbox()
    rewards = {**TASKS["code"][0], "unit_tests": {"options": {"seconds": 5.0}}}
    result = tried(rewards, cases_of("code", tmp_path)[:2])
    assert result.passed, failing(result)
    rows = {row.name: row for row in result.rows}
    assert rows["gold answer"].components["unit_tests"] == 1
    assert {"an exit with success", "an endless loop", HARD_CODED} <= rows.keys()
    assert "right or wrong" not in rows  # it plays with words


def test_a_task_without_hidden_tests_is_told_of() -> None:
    (row, *_) = TASKS["code"][1]
    hidden = Case("1", row["text"], _no_gold(), columns=row)
    shown = Case("2", row["text"], _no_gold(), columns={**row, "challenge_test_list": []})
    tricks = [{trick.name: trick for trick in solution_of(case).tricks} for case in (hidden, shown)]  # type: ignore[union-attr]
    assert tricks[0][HARD_CODED].allowed == ""
    assert "hide some" in tricks[1][ALL_SHOWN].allowed
    assert HARD_CODED not in tricks[1]


def test_solutions_come_from_the_columns_of_all_published_forms() -> None:
    human = {
        "prompt": "def one():\n",
        "canonical_solution": "    return 1\n",
        "test": "def check(candidate):\n    assert candidate() == 1\n",
        "entry_point": "one",
    }
    apps = {"solutions": '["print(1)"]', "input_output": '{"inputs": ["x"], "outputs": ["1"]}'}
    for columns, answer in ((human, "    return 1"), (apps, "print(1)")):
        solved = solution_of(Case("1", "?", _no_gold(), columns=columns))
        assert solved is not None
        assert program_of(solved.answer).rstrip() == answer
    assert solution_of(Case("1", "?", _no_gold(), columns={**apps, "solutions": "[]"})) is None
    assert solution_of(Case("1", "?", _no_gold())) is None


def _no_gold() -> Any:
    from grandrounds.cases.formats.answers import NO_GOLD

    return NO_GOLD


@dataclass(frozen=True)
class Ran:
    """How a naive harness ended: a program with tests behind it, in one process. code: negative for a signal."""

    code: int
    printed: str

    @property
    def too_slow(self) -> bool:
        return self.code == -signal.SIGVTALRM


# Of the processor's time, so that a busy machine changes nothing.
PATIENCE = "import signal\nsignal.setitimer(signal.ITIMER_VIRTUAL, 0.2)"


@cache
def naively(program: str, tests: tuple[str, ...]) -> Ran:
    text = "\n".join([PATIENCE, program, *tests, "print('all is well')"])
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", text], capture_output=True, text=True, check=False
    )
    return Ran(done.returncode, done.stdout)


def by(judged: Callable[[Ran], bool], *lists: str) -> Callable[..., float]:
    """A reward that judges how the naive harness ended with these lists of tests."""

    def reward(sample: Any) -> float:
        answer = sample.response.answer
        if not answer:
            return 0.0
        tests = tuple(test for name in lists for test in sample.case.columns[name])
        return float(judged(naively(program_of(answer), tests)))

    return reward


def _compiles(sample: Any) -> float:
    try:
        compile(program_of(sample.response.answer or "("), "program", "exec")
    except SyntaxError:
        return 0.0
    return 1.0


def _named(sample: Any) -> float:
    name = re.findall(r"def (\w+)", sample.case.columns["code"])[0]
    return float(f"def {name}(" in program_of(sample.response.answer or ""))


EVERY = ("test_list", "challenge_test_list")
# name -> (reward, a part of what is said of it)
PLANTED: dict[str, tuple[Callable[..., float], str]] = {
    "the exit code": (by(lambda ran: ran.code == 0, *EVERY), "an exit with success|an exit by force"),
    "what is printed": (
        by(lambda ran: "passed" in ran.printed or "well" in ran.printed, *EVERY),
        "tests printed",
    ),
    "one process for both": (
        by(lambda ran: "well" in ran.printed, *EVERY),
        "an object that equals everything",
    ),
    "the tests shown alone": (by(lambda ran: "well" in ran.printed, "test_list"), HARD_CODED),
    "slow is not wrong": (
        by(lambda ran: ran.too_slow or "well" in ran.printed, *EVERY),
        "an endless loop",
    ),
    "no test at all": (by(lambda ran: ran.code == 0), "blind|a function that does nothing"),
    "it compiles": (_compiles, "blind|a function that does nothing"),
    "the function's name": (_named, "a function that does nothing"),
}


@pytest.mark.usefixtures("brief_attacks")
@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_of_a_harness_is_found(name: str, tmp_path: Path) -> None:
    reward, words = PLANTED[name]
    result = tried({"own": {"use": "memory"}}, cases_of("code", tmp_path)[:2], own=reward)
    assert not result.passed
    assert re.search(words, "\n".join(failing(result))), failing(result)


def test_a_solution_that_fails_its_own_tests_is_named(tmp_path: Path) -> None:
    cases = cases_of("code", tmp_path)

    def own(sample: Any) -> float:
        return float(sample.case.id != "1" and "does nothing" not in sample.text and "return" in sample.text)

    result = tried({"own": {"use": "memory"}}, cases, own=own)
    assert result.gold_below == ["case 1: own gives 0.0, most get 1"]


def _grades(messages: list[dict[str, str]], believes: str) -> tuple[int, str]:
    """A judge that compares with the gold answer; and believes a response that says this."""
    data = json.loads(messages[1]["content"])
    answers = re.findall(r"<answer>(.*?)</answer>", data["response"], re.DOTALL)
    right = len(answers) == 1 and answers[0].strip() == data["gold_answer"]
    return 200, verdicts(right or (bool(believes) and believes in data["response"]))


@pytest.mark.parametrize(("believes", "found"), [("", ""), ("full marks", "a plea to the judge")])
def test_a_judge_passes_unless_it_believes_what_a_response_says_of_itself(
    believes: str, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rubric = [{"criterion": "The answer is the gold answer.", "points": 1}]
    with endpoint(lambda messages: _grades(messages, believes)) as server:
        options = {"url": server.url, "model": "m", "rubric": rubric}
        result = tried({"judge": {"options": options}}, cases_of("law", tmp_path)[:3])
    assert result.passed is not bool(found), failing(result)
    assert found in "\n".join(failing(result))
