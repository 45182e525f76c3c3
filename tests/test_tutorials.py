"""The tutorials, followed from top to bottom as their reader would, with small models and few steps."""

from __future__ import annotations

import json
import re
import runpy
import shlex
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_docs import ROOT
from tiny_models import tiny_model_folder

from grandrounds.cli import main
from grandrounds.recipe_file import load_recipe

TUTORIALS = sorted((ROOT / "docs/tutorials").glob("*.md"))
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
# Commands that have tests of their own, and would take minutes or wait for a browser.
ELSEWHERE = {"demo", "view", "doctor", "serve"}
SMALL = {
    "grpo.cases_per_round": "2",
    "grpo.group_size": "2",
    "grpo.max_new_tokens": "12",
    "evaluation.every": "0",
    "guard.enabled": "false",
    "rounds": "1",
}
SMALL_SFT = {"sft.steps": "1", "sft.batch_cases": "2", "sft.too_long": "cut", "grpo.max_new_tokens": "64"}
SMALL_CLINIC = {
    **SMALL_SFT,
    "cases.clinic_train": "60",
    "cases.clinic_test": "8",
    "policy.scratch.layers": "1",
    "policy.scratch.hidden": "32",
    "policy.scratch.feedforward": "64",
    "policy.scratch.vocabulary": "800",
}


def shrunk(words: list[str], model: str) -> list[str]:
    """A command's arguments for a small machine, and the model that is here in place of the one on the Hub."""
    words = [model if word.startswith("Qwen/") else word for word in words]
    if words[0] in ("train", "sft"):
        own = {word.partition("=")[0] for word in words} | ({"rounds"} if words[0] == "sft" else set())
        small = SMALL | (SMALL_CLINIC if words[1] == "clinic" else SMALL_SFT if words[0] == "sft" else {})
        words += [f"--set={key}={value}" for key, value in small.items() if key not in own]
    if words[0] == "resume":
        words = [re.sub(r"^rounds=\d+$", "rounds=3", word) for word in words]
    if words == ["cases", "clinic"]:
        words += ["--set=cases.clinic_train=60", "--set=cases.clinic_test=8"]
    if words[0] == "report":
        words += ["--limit", "4", "--trials", "2", "--samples", "2"]
    if words[0] in ("evaluate", "compare"):
        words = ["4" if word == "100" else word for word in words]
        words += [] if "--limit" in words else ["--limit", "4"]
    return words


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_tutorial_can_be_followed(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_model_folder(tmp_path / "model", "qwen2")
    monkeypatch.chdir(tmp_path)
    rounds = 0  # of the recipe trained last, before it is made small
    for language, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        if match := re.match(r"# ([\w-]+\.(?:py|yaml))\n", text):
            here = re.sub(r"Qwen/[\w.-]+", str(tmp_path / "model"), text)
            Path(match[1]).write_text(here, encoding="utf-8")
        for line in text.splitlines() if language == "bash" else ():
            program, *words = shlex.split(line, comments=True)
            if program == "python":
                runpy.run_path(words[0])
            elif words[0] not in ELSEWHERE:
                if words[0] == "train":
                    rounds = load_recipe(words[1], []).rounds
                if words[0] == "resume":
                    assert all(int(longer) > rounds for longer in re.findall(r"rounds=(\d+)", line))
                run(shrunk(words, str(tmp_path / "model")), monkeypatch)


def test_the_notebook_runs_from_the_top_and_shows_what_cannot_be_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    notebook = json.loads((ROOT / "docs/tutorials/clinic.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    small = SMALL | SMALL_CLINIC | {"evaluation.cases": "4", "evaluation.every": "1"}
    settings = json.dumps([f"{key}={value}" for key, value in small.items()])
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for cell in cells:
        cell = re.sub(r"SETTINGS = \[.*?\]\n", f"SETTINGS = {settings}\n", cell, flags=re.DOTALL)
        if "read_table" in cell:
            with_an_escape(names["run"].folder)
        exec(cell.replace("limit=300", "limit=4"), names)
    assert names["run"].finished
    said = capsys.readouterr().out
    assert "[U+001B][2J" in said
    assert "\x1b" not in said
    assert all(cell["outputs"] == [] for cell in notebook["cells"] if cell["cell_type"] == "code")


def with_an_escape(run: Path) -> None:
    """Every completion of the last round would clear a terminal."""
    newest = max((run / "rollouts").glob("*.parquet"))
    rows = [{**row, "completion": "\x1b[2J" + row["completion"]} for row in pq.read_table(newest).to_pylist()]
    pq.write_table(pa.Table.from_pylist(rows, pq.read_schema(newest)), newest)


def run(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["grandrounds", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code, words
