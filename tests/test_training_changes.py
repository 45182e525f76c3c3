"""A run that stopped can always be gone on with: longer, in smaller packs, past what is too long for its model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from judge_support import by_words, endpoint
from typer.testing import CliRunner

from grandrounds.cli.app import app
from grandrounds.errors import CaseError, RecipeError, RewardError, RunError
from grandrounds.recipe import Recipe
from grandrounds.recipe_file import recipe_from
from grandrounds.training.folder import RunFolder
from grandrounds.training.progress import SilentProgress
from grandrounds.training.run import resume, train

SILENT = SilentProgress()
SCRATCH = {"layers": 1, "hidden": 32, "heads": 2, "feedforward": 64, "vocabulary": 300}


def rows(count: int = 12, **changes: Any) -> list[dict[str, Any]]:
    return [
        {
            "id": str(n),
            "question": f"What is {n} plus {n}?",
            "answer": str(2 * n),
            "reasoning": f"Twice {n}.",
            **changes,
        }
        for n in range(count)
    ]


def recipe(**sections: Any) -> Recipe:
    return recipe_from(
        {
            "rounds": 2,
            "prompt": {"system": ""},
            "cases": {"test_fraction": 0.0, **sections.pop("cases", {})},
            "policy": {"scratch": SCRATCH},
            "grpo": {"group_size": 2, "cases_per_round": 2, "max_new_tokens": 24, **sections.pop("grpo", {})},
            "rewards": {"length": {"options": {"buffer": 1.0}}},
            "guard": {"enabled": False},
            **sections,
        }
    )


class Notes(SilentProgress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


def test_a_finished_run_made_longer_equals_one_that_was_as_long_from_the_start(tmp_path: Path) -> None:
    short = train(recipe(), tmp_path / "short", cases=rows(), progress=SILENT)
    assert short.finished
    notes = Notes()
    longer = resume(short.folder, ["rounds=4"], cases=rows(), progress=notes)
    assert longer.rounds == 4
    assert notes.lines[0] == "Changed: rounds from 2 to 4."
    whole = train(recipe(rounds=4), tmp_path / "whole", cases=rows(), progress=SILENT)
    weights = [run.folder / "checkpoints/000004/model.safetensors" for run in (longer, whole)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    record = (short.folder / "changes.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in record] == [{"after_round": 2, "key": "rounds", "from": 2, "to": 4}]
    assert RunFolder.open(short.folder).recipe().rounds == 4


def test_what_may_change_changes_and_is_warned_of(tmp_path: Path) -> None:
    run = train(recipe(grpo={"schedule": "linear"}), tmp_path / "run", cases=rows(), progress=SILENT)
    notes = Notes()
    sets = [
        "rounds=3",
        "grpo.learning_rate=1e-4",
        "grpo.tokens_per_pack=64",
        "rewards.length.timeout_seconds=5",
    ]
    resume(run.folder, [*sets, "guard.patience=3", "checkpoint.keep=1"], cases=rows(), progress=notes)
    said = "\n".join(notes.lines)
    assert "rounds from 2 to 3. The learning rate's linear schedule now ends" in said
    assert "no longer that of one learning rate" in said
    assert "grpo.tokens_per_pack from 4096 to 64." in said
    assert len((run.folder / "changes.jsonl").read_text(encoding="utf-8").splitlines()) == 6


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("grpo.group_size=4", "sampled and learned with it"),
        ("grpo.max_new_tokens=12", "sampled and learned with it"),
        ("cases.test_fraction=0.5", "the split into training and test cases"),
        ("prompt.answer_tag=final", "prompts of this form"),
        ("policy.scratch.layers=2", "belong to this model"),
        ("rewards.length.weight=2", "would not compare"),
        ("rewards.format.weight=2", "would not compare"),
        ("seed=1", "everything random"),
        ("sft.steps=9", "this warm-up"),
        ("name=other", "this name"),
        ("rounds=1", "2 rounds are done already"),
    ],
)
def test_what_contradicts_the_rounds_done_is_refused_with_the_reason(
    change: str, words: str, finished: Path
) -> None:
    before = (finished / "recipe.yaml").read_bytes()
    with pytest.raises(RunError, match=words) as caught:
        resume(finished, [change, "guard.patience=2"], cases=rows(), progress=SILENT)
    assert f"--set {change}".startswith(caught.value.where)
    assert (finished / "recipe.yaml").read_bytes() == before
    assert not (finished / "changes.jsonl").exists()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(recipe(), tmp_path_factory.mktemp("runs") / "run", cases=rows(), progress=SILENT).folder


def test_a_misspelt_key_is_named_as_in_a_recipe(finished: Path) -> None:
    with pytest.raises(RecipeError, match="no key `round`"):
        resume(finished, ["round=3"], cases=rows(), progress=SILENT)


def test_the_command_line_makes_a_run_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cases.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows()), encoding="utf-8")
    train(recipe(cases={"source": "cases.jsonl"}), "run", progress=SILENT)
    done = CliRunner().invoke(app, ["resume", "run", "--set", "rounds=3"], catch_exceptions=False)
    assert done.exit_code == 0
    assert "round 3/3" in done.output
    assert "Done: run" in done.output


LONG = " ".join(str(n * n * 7919) for n in range(2000))


def test_cases_too_long_for_the_model_are_left_out_at_the_start(tmp_path: Path) -> None:
    notes = Notes()
    cases = [*rows(), {"id": "long", "question": LONG, "answer": "1"}]
    run = train(recipe(rounds=7), tmp_path / "run", cases=cases, progress=notes)
    assert run.finished  # an epoch and more: the long case would have been drawn
    line = next(line for line in notes.lines if line.startswith("Left out"))
    assert "1 of 13 training cases do not fit" in line
    assert "context of 2,048 less grpo.max_new_tokens leaves 2,024" in line
    (left_out,) = json.loads((run.folder / "left_out.json").read_text(encoding="utf-8"))
    assert left_out.startswith("case long: its prompt has ")
    assert resume(run.folder, ["rounds=8"], cases=cases, progress=SILENT).rounds == 8


def test_cases_too_long_are_an_error_on_request_and_where_none_is_left(tmp_path: Path) -> None:
    cases = [*rows(), {"id": "long", "question": LONG, "answer": "1"}]
    with pytest.raises(CaseError, match=r"1 of 13 training cases .*\(case long\)") as caught:
        train(recipe(cases={"too_long": "error"}), tmp_path / "error", cases=cases, progress=SILENT)
    assert caught.value.where == "cases.too_long"
    with pytest.raises(CaseError, match="2 of 2 training cases"):
        train(recipe(), tmp_path / "none", cases=rows(2, question=LONG), progress=SILENT)


def demonstrated(too_long: str) -> Recipe:
    return recipe(rounds=0, sft={"steps": 3, "batch_cases": 4, "too_long": too_long})


def test_demonstrations_too_long_are_left_out_cut_or_refused(tmp_path: Path) -> None:
    cases = rows()
    cases[3]["reasoning"] = cases[5]["reasoning"] = "The sum is found by counting on. " * 30
    notes = Notes()
    assert train(demonstrated("skip"), tmp_path / "skip", cases=cases, progress=notes).finished
    assert (
        "Left out of the warm-up: 2 of 12 demonstrations are longer than grpo.max_new_tokens = 24."
        in notes.lines
    )
    notes = Notes()
    assert train(demonstrated("cut"), tmp_path / "cut", cases=cases, progress=notes).finished
    assert not any(line.startswith("Left out") for line in notes.lines)
    with pytest.raises(CaseError, match=r"2 of 12 demonstrations .*\(case 3, case 5\)") as caught:
        train(demonstrated("error"), tmp_path / "error", cases=cases, progress=SILENT)
    assert caught.value.where == "sft.too_long"
    assert "sft.too_long=cut" in caught.value.hint


def test_a_run_whose_judge_spent_its_budget_goes_on_with_a_larger_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rubric = [{"criterion": "a", "points": 1}]
    with endpoint(by_words) as server:
        options = {"url": server.url, "model": "m", "rubric": rubric, "budget": 5}
        judged = recipe(rewards={"judge": {"options": options}})
        with pytest.raises(RewardError, match="budget of 5 calls is spent"):
            train(judged, "run", cases=rows(), progress=SILENT)
        larger = ["rewards.judge.options.budget=20"]
        assert resume("run", overrides=larger, cases=rows(), progress=SILENT).finished
        with pytest.raises(RunError, match="rewards before and after would not compare"):
            resume("run", overrides=["rewards.judge.options.model=other"], cases=rows(), progress=SILENT)
    distinct = {asked["messages"][1]["content"] for asked in server.asked}
    assert len(server.asked) == len(distinct)  # nothing was asked twice
