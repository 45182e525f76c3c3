"""Components together: weights, gates, what does not apply, and recipes that cannot be meant."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rewards_support import answered, choice_case, rewards, sample

from grandrounds.errors import RewardError
from grandrounds.recipe import RewardRecipe
from grandrounds.response import Outline
from grandrounds.rewards import build_rewards
from grandrounds.types import Case

CASE = choice_case()
RIGHT = answered(CASE, "r", "B")
WRONG = answered(CASE, "r", "A")
BARE = sample(CASE, "<answer>B</answer>")


def test_weights_add_and_gates_multiply() -> None:
    scores = rewards(accuracy={"weight": 2.0}, coverage={"weight": 0.5}, format={"gate": True}).score(
        [RIGHT, WRONG, BARE]
    )
    assert list(scores.rewards) == [2, 0, 0]
    assert scores.scores == {"accuracy": (1, 0, 1), "coverage": (0, 0, 0), "format": (1, 1, 0)}
    assert scores.notes[0]["accuracy"] == "letter"
    assert scores.notes[2]["format"] == ["reasoning_missing"]


def test_a_shut_gate_does_not_pay_for_escaping_a_penalty() -> None:
    scores = rewards(accuracy={"weight": -1.0}, format={"gate": True}).score([RIGHT, BARE])
    assert list(scores.rewards) == [-1, -1]


def test_one_reward_can_stand_twice_under_two_names() -> None:
    scores = rewards(strict={"use": "format"}, soft={"use": "format", "options": {"soft": True}}).score(
        [BARE]
    )
    assert list(scores.rewards) == [0.25]


def test_what_does_not_apply_is_left_out_of_sum_and_product(tmp_path: Path) -> None:
    (tmp_path / "none.py").write_text("def f(sample): return None")
    none: dict[str, Any] = {"use": f"{tmp_path}/none.py:f"}
    assert rewards(accuracy={}, other=none).score([RIGHT]).rewards == [1]
    assert rewards(accuracy={}, gate={**none, "gate": True}).score([RIGHT]).rewards == [1]
    with pytest.raises(RewardError, match=r"case case 1.*no reward applies"):
        rewards(other=none, format={"gate": True}).score([RIGHT])


@pytest.mark.parametrize(
    ("specs", "said"),
    [
        ({"acuracy": {}}, "rewards.acuracy.*no reward `acuracy`.*Did you mean `accuracy`"),
        ({"mine": {"use": "zzz"}}, "There are accuracy"),
        ({"format": {"options": {"sof": True}}}, "unknown option `sof`.*`soft`"),
        ({"accuracy": {"options": {"x": 1}}}, "It takes partial"),
        ({"consistency": {"options": {"x": 1}}}, "It takes none"),
        ({"length": {"options": {"buffer": 0}}}, "rewards.length.*buffer"),
        ({"length": {"options": {"buffer": "much"}}}, "rewards.length"),
        ({"validity": {}}, "needs knowledge to check"),
        ({"accuracy": {"gate": True}}, "only gates"),
        ({}, "no reward"),
        ({"accuracy": {}, "format": {"gate": True, "weight": 2.0}}, "a gate has no weight"),
    ],
)
def test_a_recipe_that_cannot_be_meant_is_refused(specs: dict[str, Any], said: str) -> None:
    with pytest.raises(RewardError, match=said) as caught:
        rewards(**specs)
    assert caught.value.where
    assert caught.value.hint


def test_knowledge_that_raises_stops_the_run_with_its_case() -> None:
    class Broken:
        def check(self, case: Case, outline: Outline) -> Any:
            raise KeyError("x")

    built = build_rewards({"validity": RewardRecipe()}, knowledge=Broken())
    with pytest.raises(RewardError, match=r"rewards.validity, case case 1.*KeyError") as caught:
        built.score([RIGHT])
    assert isinstance(caught.value.__cause__, KeyError)


def test_rewards_need_no_torch() -> None:
    code = "import sys, grandrounds.rewards; sys.exit('torch' in sys.modules or 'pint' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
