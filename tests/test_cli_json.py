"""Every command that prints a table prints JSON instead where it is asked to, and nothing beside it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from grandrounds.cli import main
from grandrounds.cli.as_json import print_json
from grandrounds.recipe import Recipe
from grandrounds.recipe_file import load_recipe, shipped_recipes

CASES = "".join(
    json.dumps({"id": str(i), "question": f"Is {i} even?", "answer": ("yes", "no")[i % 2]}) + "\n"
    for i in range(20)
)
TINY = """{name: tiny, rounds: 0, sft: {steps: 0}, cases: {source: cases.jsonl}, rewards: {accuracy: {}},
policy: {scratch: {layers: 1, hidden: 16, heads: 2, feedforward: 16, vocabulary: 300}}, grpo: {max_new_tokens: 8}}"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with cases, a recipe, a run and a YAML of TRL's."""
    folder = tmp_path_factory.mktemp("json")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("cases.jsonl").write_text(CASES, encoding="utf-8")
        Path("tiny.yaml").write_text(TINY, encoding="utf-8")
        Path("grpo.yaml").write_text("model_name_or_path: tiny\ndataset_name: own/cases\n", encoding="utf-8")
        call(patch, "train tiny.yaml --out run")
    return folder


def call(patch: pytest.MonkeyPatch, arguments: str) -> None:
    """Run `grandrounds ARGUMENTS` here. Exit code 1 is what `doctor` says of a machine that lacks something."""
    patch.setattr("sys.argv", ["grandrounds", *arguments.split()])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code or arguments.startswith("doctor")


@pytest.mark.parametrize(
    ("command", "key"),
    [
        ("cases cases.jsonl --json", "source"),
        ("recipe --json", "name"),
        ("recipe clinic --json", "rounds"),
        ("recipe --explain --json", "key"),
        ("rewards test tiny.yaml --json", "rows"),
        ("plan tiny.yaml --no-probe --json", "peak"),
        ("import trl grpo.yaml --json", "keys"),
        ("doctor --json", "name"),
        ("evaluate run --json -", "accuracy"),
        ("compare run run --json -", "pairs"),
    ],
)
def test_json_stands_alone_on_standard_output(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str, key: str
) -> None:
    monkeypatch.chdir(place)
    call(monkeypatch, command)
    made: Any = json.loads(capsys.readouterr().out)
    assert key in (made[0] if isinstance(made, list) else made)


def test_recipes_as_json_are_all_of_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def printed(*arguments: str) -> Any:
        call(monkeypatch, " ".join(("recipe", *arguments, "--json")))
        return json.loads(capsys.readouterr().out)

    assert [row["name"] for row in printed()] == list(shipped_recipes())
    assert all(row["about"] for row in printed())
    assert Recipe.model_validate(printed("clinic", "--set", "rounds=7")) == load_recipe(
        "clinic", ["rounds=7"]
    )


def test_what_json_does_not_know_is_null(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": [1.0, math.nan], "b": (math.inf,)})
    assert json.loads(capsys.readouterr().out) == {"a": [1.0, None], "b": [None]}
