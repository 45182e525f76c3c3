"""One time left over a whole run: measured stage by stage, and nothing told of what nothing is known of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from grandrounds.recipe import Recipe
from grandrounds.recipe_file import recipe_from
from grandrounds.training.course import ROUNDS, WARMUP, Course, Part
from grandrounds.training.progress import SilentProgress
from grandrounds.training.run import resume, train
from grandrounds.training.whole import Timed, Whole

Wait = Callable[[float], None]


@pytest.fixture
def wait(monkeypatch: pytest.MonkeyPatch) -> Wait:
    """Lets the clock go on by so many seconds."""
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])

    def go_on(seconds: float) -> None:
        clock[0] += seconds

    return go_on


def recipe(rounds: int = 4, steps: int = 10, every: int = 0) -> Recipe:
    """A step has 8 completions, a round 16; an evaluation of 8 cases counts as 4."""
    return recipe_from(
        {
            "rounds": rounds,
            "sft": {"steps": steps, "batch_cases": 8},
            "grpo": {"cases_per_round": 4, "group_size": 4},
            "evaluation": {"every": every, "cases": 8},
        }
    )


def test_rounds_are_told_of_once_one_was_timed(wait: Wait) -> None:
    course = Course(recipe())
    course.begin(0, 0)
    assert (course.whole.words, course.whole.share) == ("", 0.0)
    wait(30)  # in which a first step also loads what it needs
    course.step(1)
    assert course.whole.words == "about 4 min, then rounds"
    for step in range(2, 11):
        assert not course.whole.words.endswith("left")
        wait(2)
        course.step(step)
    assert course.whole.words == ""
    assert course.whole.share == pytest.approx(80 / (80 + 64))
    wait(60)
    course.round(1)
    assert course.whole.words == "about 3 min left"
    wait(20)
    course.round(2)
    assert course.whole.words == "40 s left"
    # A step of 2 seconds counts as such, a round of 20 seconds too.
    assert course.whole.share == pytest.approx((10 * 2 + 2 * 20) / (10 * 2 + 4 * 20))
    wait(40)
    course.round(4)
    assert (course.whole.left, course.whole.share) == (0.0, 1.0)


def test_evaluations_count_where_they_happen(wait: Wait) -> None:
    course = Course(recipe(rounds=5, steps=0, every=2))  # before the first round, and after 2, 4 and 5
    course.begin(0, 0)
    for number, evaluations in enumerate((1, 1, 0, 1), 1):
        wait(16 + 4 * evaluations)
        course.round(number)
    assert course.whole.left == pytest.approx(16 + 4)


def test_a_resumed_run_begins_where_it_stopped(wait: Wait) -> None:
    course = Course(recipe())
    course.begin(10, 2)
    assert course.whole.share == pytest.approx((80 + 32) / (80 + 64))
    wait(7)
    course.round(3)
    assert course.whole.words == "about 7 s left"
    half = Course(recipe(rounds=0))
    half.begin(5, 0)
    assert half.whole.share == 0.5


def test_a_resumed_run_goes_on_from_the_share_at_which_it_stopped(wait: Wait) -> None:
    course = Course(recipe(rounds=8))
    course.begin(0, 0)
    for step in range(1, 11):
        wait(30 if step == 1 else 1)
        course.step(step)
    for number in (1, 2, 3):
        wait(60 if number == 1 else 20)
        course.round(number)
    share = course.whole.share
    assert share == pytest.approx((10 * 1 + 3 * 20) / (10 * 1 + 8 * 20))
    again = Course(recipe(rounds=8))
    again.begin(10, 3, course.timed)
    assert again.whole.share == pytest.approx(share)
    assert again.whole.words == "2 min left"
    wait(90)  # in which the first round also loads what it needs
    again.round(4)
    assert again.whole.left == pytest.approx(4 * 20)
    wait(20)
    again.round(5)
    third = Course(recipe(rounds=8))
    third.begin(10, 5, again.timed)
    assert third.whole.share == pytest.approx(again.whole.share) == pytest.approx(110 / 170)


def test_a_faster_machine_soon_has_less_left_and_what_is_done_took_what_it_took(wait: Wait) -> None:
    course = Course(recipe(rounds=400, steps=0))
    course.begin(0, 200, {ROUNDS: (200 * 16.0, 200 * 20.0)})
    assert (course.whole.share, course.whole.left) == (0.5, 4000.0)
    for number in range(201, 262):
        wait(2)
        course.round(number)
    # A minute of 20 seconds a round counts beside two minutes of 2 seconds.
    pace = (60 + 60 * 2) / (3 + 60)
    assert course.whole.left == pytest.approx(139 * pace)
    assert course.whole.share == pytest.approx((4000 + 61 * pace) / (4000 + 200 * pace))


def test_a_run_without_steps_and_rounds_is_at_its_end() -> None:
    course = Course(recipe(rounds=0, steps=0))
    course.begin(0, 0)
    assert course.whole.share == 1.0


def test_a_part_moves_the_whole_that_it_is_a_part_of(wait: Wait) -> None:
    whole = Whole({"before": 100, "cold start": 50, "GRPO": 50}, pace=2.0)
    course = Course(recipe(), Part(whole, {WARMUP: "cold start", ROUNDS: "GRPO"}))
    course.begin(0, 0)
    assert (whole.share, whole.words) == (0.5, "3 min left")
    wait(15)
    course.step(10)
    assert (whole.share, whole.left) == (0.75, 100)  # 15 seconds say too little
    wait(1)
    course.round(2)
    assert whole.share == pytest.approx(7 / 8)
    assert whole.left == pytest.approx(25 * 16 / 75)


class Told(SilentProgress):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def planned(self, recipe: Recipe, step: int, rounds: int, timed: Mapping[str, Timed]) -> None:
        self.told.append(f"planned: {step} of {recipe.sft.steps}, {rounds} of {recipe.rounds}")
        self.timed = timed

    def doing(self, what: str) -> None:
        self.told.append(what)


def tiny_recipe() -> Recipe:
    return recipe_from(
        {
            "rounds": 1,
            "cases": {"source": "clinic", "clinic_train": 40, "clinic_test": 5},
            "policy": {
                "scratch": {"layers": 1, "hidden": 16, "heads": 2, "feedforward": 16, "vocabulary": 300}
            },
            "sft": {"steps": 1, "batch_cases": 2, "reasoning": False},
            "grpo": {"cases_per_round": 2, "group_size": 3, "max_new_tokens": 8},
            "evaluation": {"every": 1, "cases": 5},
        }
    )


def test_a_run_tells_a_resumed_one_what_its_parts_took(tmp_path: Path) -> None:
    train(tiny_recipe(), tmp_path / "run", progress=SilentProgress())
    progress = Told()
    resume(tmp_path / "run", ["rounds=2"], progress=progress)
    assert {name: work for name, (work, _) in progress.timed.items()} == {WARMUP: 2.0, ROUNDS: 6.0 + 5.0}
    assert all(seconds > 0 for _, seconds in progress.timed.values())


def test_a_run_says_what_it_does_before_its_first_round_is_done(tmp_path: Path) -> None:
    progress = Told()
    train(tiny_recipe(), tmp_path / "run", progress=progress)
    evaluating = [f"evaluating: {done} of 5 held-out cases" for done in range(6)]
    assert progress.told == [
        "reading the cases",
        "estimating the memory",
        "loading the model",
        "planned: 0 of 1, 0 of 1",
        "reading the demonstrations",
        *evaluating,
        "sampling: 0 of 6 completions",
        "sampling: 3 of 6 completions",
        "sampling: 6 of 6 completions",
        "rewards, then learning from the completions",
        *evaluating,
    ]
