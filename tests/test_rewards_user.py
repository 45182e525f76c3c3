"""Users' own rewards: TRL's form and ours, plain and async, and every way they fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rewards_support import answered, choice_case

from grandrounds.errors import RewardError
from grandrounds.recipe import RewardRecipe
from grandrounds.rewards import Sample, ScoredGroup, build_rewards
from grandrounds.types import Message

CASES = [choice_case(id=f"case {i}", columns={"difficulty": i}) for i in range(3)]
SAMPLES = [answered(case, "r", letter, length=2) for case, letter in zip(CASES, "ABB", strict=True)]


def scored(folder: Path, code: str, samples: list[Sample] = SAMPLES, **spec: Any) -> ScoredGroup:
    (folder / "mine.py").write_text(code)
    return build_rewards({"mine": RewardRecipe(use="mine.py:f", **spec)}, base=folder).score(samples)


@pytest.mark.parametrize(
    "code",
    [
        "def f(completions, answer, **kwargs): return [float('B</' in c) for c in completions]",
        "def f(prompts, completions, letter): return [float(l in c) for c, l in zip(completions, letter)]",
        "async def f(completions, **kwargs): return [float('B</' in c) for c in completions]",
        "def f(sample): return sample.response.answer == sample.case.gold.letter",
        "async def f(sample): return sample.response.answer == sample.case.gold.letter",
        "def f(samples): return [a.response.answer == 'B' for a in samples]",
        "from grandrounds.rewards import Sample\ndef f(one: Sample): return one.response.answer == 'B'",
        "from __future__ import annotations\nfrom grandrounds import rewards\n"
        "def f(all: list[rewards.Sample]): return [a.response.answer == 'B' for a in all]",
        "import numpy as np\ndef f(completions, **_): return np.array(['B<' in c for c in completions]) * 1.",
        "class f:\n    def __call__(self, completions, **_): return ['B</' in c for c in completions]",
    ],
)
def test_every_form_of_function_is_called_as_it_expects(tmp_path: Path, code: str) -> None:
    assert list(scored(tmp_path, code).rewards) == [0, 1, 1]


def test_trl_functions_get_columns_tokens_and_options(tmp_path: Path) -> None:
    code = """
def f(prompts, completions, completion_ids, difficulty, solution, scale, **kwargs):
    assert all(isinstance(prompt, str) for prompt in prompts)
    assert set(solution) == {"Pericarditis"} and kwargs["case_id"][0] == "case 0"
    return [scale * d + len(ids) for d, ids in zip(difficulty, completion_ids)]
"""
    assert list(scored(tmp_path, code, options={"scale": 10}).rewards) == [2, 12, 22]


def test_chat_cases_reach_trl_functions_as_messages(tmp_path: Path) -> None:
    case = choice_case(question=(Message("user", "Which?"),))
    code = """
def f(prompts, completions, **_):
    assert prompts[0][-1]["role"] == "user"
    assert completions[0][0]["role"] == "assistant"
    return [float("B</" in completion[0]["content"]) for completion in completions]
"""
    assert list(scored(tmp_path, code, [answered(case, "r", "B")]).rewards) == [1]


def test_a_dotted_path_is_imported_from_the_recipes_folder(tmp_path: Path) -> None:
    (tmp_path / "own_rewards_module.py").write_text(
        "def f(completions, **_): return [2.0] * len(completions)"
    )
    built = build_rewards({"mine": RewardRecipe(use="own_rewards_module:f")}, base=tmp_path)
    assert list(built.score(SAMPLES).rewards) == [2, 2, 2]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (
            "def f(completions, **_):\n    x = 1\n    return 1 / 0",
            r"mine.py:3.*ZeroDivisionError.*tried 2 times",
        ),
        ("def f(sample):\n    raise ValueError('odd')", r"mine.py:2, case case 0.*ValueError: odd"),
        ("async def f(sample):\n    raise ValueError('odd')", r"mine.py:2.*ValueError: odd"),
        ("import sys\ndef f(completions, **_): sys.exit(0)", r"SystemExit"),
        ("def f(completions, **_): return [1.0]", r"1 scores for 3 completions"),
        ("def f(completions, **_): return 1.0", r"float instead of a list of 3"),
        ("def f(completions, **_): return [0.0, float('nan'), 1.0]", r"rewards.mine, case case 1.*nan"),
        ("def f(completions, **_): return [0.0, 1.0, float('inf')]", r"case case 2.*inf"),
        ("def f(completions, **_): return ['a', 1.0, 1.0]", r"case case 0.*'a', which is no number"),
        ("def f(completions, **_): return [None, None, None]", r"no reward applies.*"),
        ("def f(completions, dificulty): return [1.0] * 3", r"`dificulty`.*Did you mean `difficulty`"),
        ("def f(completions, zzz): return [1.0] * 3", r"`zzz`.*There are: .*difficulty"),
    ],
)
def test_what_goes_wrong_is_named_and_never_a_zero(tmp_path: Path, code: str, said: str) -> None:
    with pytest.raises(RewardError, match=said):
        scored(tmp_path, code)


@pytest.mark.parametrize(
    "code",
    [
        "def f(completions, **_): time.sleep(60); ended.touch()",
        "def f(sample): time.sleep(60); ended.touch()",
        "async def f(completions, **_): await asyncio.sleep(60); ended.touch()",
        "async def f(sample): time.sleep(60); ended.touch()",
    ],
)
def test_a_hanging_reward_does_not_hang_the_run(tmp_path: Path, code: str) -> None:
    ended = tmp_path / "ended"
    start = f"import asyncio, pathlib, time\nended = pathlib.Path({str(ended)!r})\n"
    with pytest.raises(RewardError, match=r"no result after 0.1 seconds.*rewards.mine.timeout_seconds"):
        scored(tmp_path, start + code, timeout_seconds=0.1)
    assert not ended.exists()


def test_a_reward_that_fails_once_is_tried_again(tmp_path: Path) -> None:
    code = """
calls = []
def f(completions, **_):
    calls.append(1)
    if len(calls) == 1:
        raise ConnectionError("busy")
    return [1.0] * len(completions)
"""
    assert list(scored(tmp_path, code).rewards) == [1, 1, 1]
    with pytest.raises(RewardError, match="busy"):
        scored(tmp_path, code, retries=0)


def test_async_sample_functions_run_side_by_side(tmp_path: Path) -> None:
    code = f"""
import asyncio
everybody = asyncio.Barrier({len(SAMPLES) * 10})
async def f(sample):
    await everybody.wait()  # one after the other, the first would wait for ever
    return 1.0
"""
    assert set(scored(tmp_path, code, SAMPLES * 10, timeout_seconds=60).rewards) == {1.0}


@pytest.mark.parametrize(
    ("use", "said"),
    [
        ("missing.py:f", "no such file"),
        ("broken.py:f", r"broken.py:2.*SyntaxError"),
        ("raising.py:f", r"raising.py:1.*ZeroDivisionError"),
        ("fine.py:fun", "Did you mean `func`"),
        ("fine.py:number", "no function"),
        ("no_such_package_anywhere:f", "cannot be imported"),
    ],
)
def test_a_function_that_cannot_be_loaded_is_explained(tmp_path: Path, use: str, said: str) -> None:
    (tmp_path / "broken.py").write_text("x = 1\ndef f(:\n")
    (tmp_path / "raising.py").write_text("1 / 0\n")
    (tmp_path / "fine.py").write_text("number = 1\ndef func(completions): ...\n")
    with pytest.raises(RewardError, match=said) as caught:
        build_rewards({"mine": RewardRecipe(use=use)}, base=tmp_path)
    assert caught.value.where.startswith("rewards.mine, ")
    assert caught.value.hint


def test_an_unknown_option_of_a_function_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RewardError, match=r"unknown option `scael`.*`scale`"):
        scored(tmp_path, "def f(completions, scale=1): return [1.0] * 3", options={"scael": 2})
