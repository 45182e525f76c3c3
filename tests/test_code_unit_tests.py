"""The reward `unit_tests`: right programs pass, wrong ones fail, and none passes by anything but being right."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from code_support import HOSTILE, sandbox
from rewards_support import answered, sample

from grandrounds import train
from grandrounds.cases.formats import build_cases, recognise
from grandrounds.cases.read import Row
from grandrounds.domains.code.task import program_of, same_output, task_of
from grandrounds.errors import RewardError
from grandrounds.recipe import RewardRecipe
from grandrounds.recipe_file import recipe_from
from grandrounds.rewards import RewardSet, Score, build_rewards
from grandrounds.training.progress import SilentProgress
from grandrounds.training.trace import read_trace
from grandrounds.types import Case

OPTIONS = {"seconds": 5, "memory_mb": 256}
MBPP = {
    "task_id": 1,
    "text": "Write a function that doubles all numbers of a list.",
    "code": "def double(x): return [2 * n for n in x]",
    "test_list": ["assert double([1, 2]) == [2, 4]", "assert double([]) == []"],
    "challenge_test_list": ["assert double([-1]) == [-2]"],
    "test_setup_code": "",
}
RIGHT = "def double(x):\n    return [2 * n for n in x]"
HUMANEVAL = {
    "task_id": "HumanEval/0",
    "prompt": "import math\n\ndef even(n: int) -> int:\n    return n - n % 2\n\n\ndef root(x: float) -> float:\n"
    '    """ A number whose square is x. """\n',
    "canonical_solution": "    return math.sqrt(x)\n",
    "test": "def check(candidate):\n    assert math.fabs(candidate(9.0) - 3) < 1e-6\n    assert even(3) == 2\n"
    "    for n in range(20):\n        assert abs(candidate(n) ** 2 - n) < 1e-6\n",
    "entry_point": "root",
}
APPS = {
    "question": "Read numbers, a line each. Print the sum.",
    "solutions": "[]",
    "input_output": json.dumps({"inputs": ["1\n2\n", "5\n"], "outputs": ["3\n", "5\n"]}),
    "difficulty": "introductory",
}
APPS_CALLS = {
    **APPS,
    "input_output": json.dumps({"fn_name": "add", "inputs": [[1, 2], [0, 0]], "outputs": [[3], [0]]}),
}


@pytest.fixture(scope="module", autouse=True)
def _sandboxed() -> None:
    sandbox()


def case_of(row: dict[str, Any]) -> Case:
    rows = [Row(row, "rows.jsonl:1")]
    (case,), errors = build_cases(rows, recognise(rows, "auto", {}, "rows.jsonl"), {})
    assert not errors
    return case


def rewards(**options: Any) -> RewardSet:
    return build_rewards({"unit_tests": RewardRecipe(options={**OPTIONS, **options})})


def scored(row: dict[str, Any], *programs: str, **options: Any) -> list[Score]:
    case = case_of(row)
    return (
        rewards(**options)
        .parts["unit_tests"]
        .component.scores([answered(case, "r", program) for program in programs])
    )


@pytest.mark.parametrize(
    ("row", "program"),
    [
        (MBPP, RIGHT),
        (MBPP, f"Here it is:\n```python\n{RIGHT}\n```\nIt doubles."),
        (MBPP, f"```\nwrong\n```\n```py\n{RIGHT}\n```"),
        (HUMANEVAL, "def root(x):\n    return math.sqrt(x)"),
        (HUMANEVAL, "```python\n    return math.sqrt(x)\n```"),
        (HUMANEVAL, "half = 0.5\n    return x ** half"),
        (APPS, "import sys\nprint(sum(map(int, sys.stdin)))"),
        (APPS_CALLS, "def add(a, b): return a + b"),
        (APPS_CALLS, "class Solution:\n    def add(self, a, b): return a + b"),
    ],
)
def test_a_right_program_passes(row: dict[str, Any], program: str) -> None:
    (score,) = scored(row, program)
    assert score.value == 1, score.note


@pytest.mark.parametrize(
    ("row", "program", "note"),
    [
        (MBPP, "def double(x): return x", "0 of 3 passed; AssertionError"),
        (MBPP, "def double(x): return [2, 4] if x else []", "2 of 3 passed; AssertionError"),
        (MBPP, "def double(x): return 1 / 0", "ZeroDivisionError: division by zero"),
        (MBPP, "def double(x): while", "SyntaxError"),
        (MBPP, "def triple(x): return x", "NameError"),
        (MBPP, "def double(x): return map(lambda n: 2 * n, x)", "AssertionError"),
        (HUMANEVAL, "def root(x): return x", "AssertionError"),
        (HUMANEVAL, "def root(x):\n    import time; time.sleep(99)", "took longer than 5 s"),
        (APPS, "print(3)", r"1 of 2 passed; printed '3'"),
        (APPS, "print(1 / 0)", "exited with code 1: ZeroDivisionError"),
        (APPS_CALLS, "def add(a, b): return [a]", "AssertionError"),
    ],
)
def test_a_wrong_program_fails_with_its_cause(row: dict[str, Any], program: str, note: str) -> None:
    (score,) = scored(row, program)
    assert score.value == 0
    if "2 of 3" in note or "1 of 2" in note:
        (partly,) = scored(row, program, partial=True)
        assert partly.value == pytest.approx({"2 of 3": 2 / 3, "1 of 2": 0.5}[note[:6]])
    assert re.search(note.partition("; ")[2] or note, score.note), score.note


# Each tries to pass every test without doubling anything.
CHEATS = {
    "prints success": "print('1 of 1 passed'); print('{\"causes\": [\"\"]}')\ndef double(x): print('OK')",
    "exits with success": "import os; os._exit(0)",
    "exits with success in the call": "import os\ndef double(x): os._exit(0)",
    "SystemExit before the tests": "raise SystemExit(0)",
    "SystemExit in the call": "def double(x): raise SystemExit(0)",
    "equals everything": "class E:\n    def __eq__(self, other): return True\ndef double(x): return E()",
    "a list that equals everything": (
        "class E(list):\n    __eq__ = lambda self, other: True\n    __hash__ = None\ndef double(x): return E([7])"
    ),
    "changes builtins": (
        "import builtins\nbuiltins.AssertionError = KeyError\nbuiltins.list = lambda *a: 0\n"
        "builtins.compile = builtins.exec = lambda *a: None\ndef double(x): return x"
    ),
    "changes the harness": (
        "import sys, json\nmain = sys.modules['__main__']\njson.dumps = lambda *a, **k: '{\"value\": true}'\n"
        "def double(x): return x"
    ),
    "answers for the harness": (
        "import os\nfor n in range(3, 30):\n"
        '    try: os.write(n, b\'{"value": {"list": [2, 4]}}\\n\' * 50)\n    except OSError: pass\n'
        "def double(x): return [2, 4]"
    ),
    "writes a verdict": (
        "import os\nfor n in range(30):\n"
        '    try: os.write(n, b\'{"nonce": "", "causes": ["", "", ""]}\')\n    except OSError: pass\n'
        "def double(x): return x"
    ),
    "kills everything": "import os\ndef double(x): os.kill(-1, 9)",
    "kills its parent": "import os\ndef double(x): os.kill(os.getppid(), 9)",
    "raises for ever": "def double(x): raise AssertionError('x' * 10**7)",
    "returns without end": "def double(x):\n    return [0] * 10**8",
    "a nest without end": "def double(x):\n    y = []\n    for _ in range(10**5): y = [y]\n    return y",
    "looks for the tests": (
        "import glob, re\nfound = ''\nfor p in glob.glob('/proc/[0-9]*/cmdline') + glob.glob('/proc/[0-9]*/environ'):\n"
        "    try: found += open(p).read()\n    except OSError: pass\n"
        "def double(x): return [-2] if 'challenge' in found or 'double([-1])' in found else x"
    ),
    "looks into the stack": (
        "import gc\ndef double(x):\n"
        "    return [-2] if any('double([-1])' in str(o) for o in gc.get_objects() if type(o) is list) else x"
    ),
    "closes the pipes": "import os\ndef double(x): os.closerange(0, 99)",
    "a fork answers too": "import os\ndef double(x):\n    os.fork()\n    return x",
}


@pytest.mark.parametrize("name", CHEATS)
def test_a_cheat_does_not_pass(name: str) -> None:
    (score,) = scored(MBPP, CHEATS[name])
    assert score.value == 0
    assert len(score.note) < 400


def test_hostile_programs_pass_neither_kind_of_test() -> None:
    programs = [program for program, _ in HOSTILE.values()]
    for row, some in ((MBPP, programs[::2]), (APPS, programs[1::2])):
        scores = scored(row, *some, seconds=1, memory_mb=256)
        assert {score.value for score in scores} == {0.0}
        assert all(0 < len(score.note) < 400 for score in scores)


def test_the_tests_own_names_are_not_the_programs() -> None:
    """A program that defines `math`, `abs` and the prompt's `even` anew is compared by the real ones."""
    (score,) = scored(
        HUMANEVAL,
        "class math:\n    fabs = lambda x: 0\ndef abs(x): return 0\ndef even(n): return 2\ndef root(x): return 0",
    )
    assert score.value == 0


def test_objects_of_the_programs_may_be_passed_back_to_it() -> None:
    row = {
        **MBPP,
        "test_list": [
            "assert weight([Parcel(2), Parcel(3)]) == 5",
            "assert top.kg == 4",
            "assert list(gen(2)) == [0, 1]",
        ],
        "challenge_test_list": [],
        "test_setup_code": "top = Parcel(1)\ntop.kg = 4",
    }
    program = """
class Parcel:
    def __init__(self, kg): self.kg = kg
def weight(parcels): return sum(parcel.kg for parcel in parcels)
def gen(n): yield from range(n)
"""
    (score,) = scored(row, program)
    assert score.value == 1, score.note


@pytest.mark.parametrize(
    "value",
    [
        "None",
        "True",
        "-0.1",
        "float('inf')",
        "10 ** 5000",
        "'ß\\n\\0'",
        "b'\\xff'",
        "(1, [2, {3: {4}}])",
        "1j",
        "{}",
        "frozenset({1})",
    ],
)
def test_plain_values_arrive_as_they_are(value: str) -> None:
    test = f"assert type(same({value})) is type({value}) and same({value}) == {value}"
    row = {**MBPP, "test_list": [test, f"assert got({value})"], "challenge_test_list": []}
    program = f"def same(x): return x\ndef got(x): return type(x) is type({value}) and x == {value}"
    (score,) = scored(row, program)
    assert score.value == 1, score.note


def test_a_case_without_tests_has_no_score_and_no_answer_is_a_failure() -> None:
    component = rewards().parts["unit_tests"].component
    without = case_of({**APPS, "input_output": "{}"})
    assert component.scores([answered(without, "r", RIGHT)]) == [Score(None)]
    assert component.scores([sample(case_of(MBPP), RIGHT)]) == [Score(0.0, "no answer")]


def test_tests_that_cannot_be_read_are_an_error_and_no_failure() -> None:
    with pytest.raises(RewardError, match=r"case .*: its tests cannot be read"):
        scored({**APPS, "input_output": "{'inputs'"}, "x")


def test_a_group_of_many_is_scored_in_order() -> None:
    programs = [RIGHT if n % 3 else "def double(x): return x" for n in range(12)]
    assert [score.value for score in scored(MBPP, *programs)] == [float(bool(n % 3)) for n in range(12)]


def test_an_unsafe_run_is_said_aloud() -> None:
    with pytest.warns(UserWarning, match="without a sandbox"):
        made = rewards(sandbox="unsafe")
    (score,) = made.parts["unit_tests"].component.scores([answered(case_of(MBPP), "r", RIGHT)])
    assert score.value == 1, score.note


def test_the_last_fenced_block_is_the_program() -> None:
    assert program_of("x = 1") == "x = 1"
    assert program_of("```python\nx = 1\n```\nor\n```\nx = 2\n```") == "x = 2\n"
    assert program_of("```python\nx = 1") == "x = 1"


def test_outputs_are_the_same_but_for_space_at_ends() -> None:
    assert same_output("1 \n2\n\n", "1\n2")
    assert not same_output("1\n2", "1 2")
    assert not same_output(" 1", "1")


def test_every_published_shape_has_its_tests() -> None:
    for row in (MBPP, HUMANEVAL, APPS, APPS_CALLS):
        assert task_of(case_of(row)) is not None


def test_a_run_is_rewarded_by_tests(tmp_path: Path) -> None:
    recipe = recipe_from(
        {
            "rounds": 1,
            "guard": {"enabled": False},
            "policy": {
                "scratch": {"layers": 1, "hidden": 32, "heads": 2, "feedforward": 64, "vocabulary": 400}
            },
            "grpo": {"group_size": 2, "cases_per_round": 2, "max_new_tokens": 8},
            "rewards": {"unit_tests": {"options": OPTIONS}, "format": {}},
        }
    )
    rows = [{**MBPP, "task_id": n} for n in range(8)]
    made = train(recipe, tmp_path / "run", cases=rows, progress=SilentProgress())
    for row in read_trace(made.folder).to_pylist():
        assert row["rewards/unit_tests"] == 0
        assert json.loads(row["notes"])["unit_tests"]
