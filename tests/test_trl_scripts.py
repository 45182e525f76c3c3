"""Scripts written for TRL run with one import changed, and their rewards see what TRL passes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from peft import PeftModel
from tiny_models import tiny_model_folder
from transformers import AutoModelForCausalLM, AutoTokenizer

from grandrounds.training.folder import RunFolder
from grandrounds.training.trace import read_trace

SCRIPTS = Path(__file__).parent / "trl_scripts"
THEIRS, OURS = "from trl import", "from grandrounds.trl import"


def script(name: str) -> str:
    """The script with its one import changed."""
    text = (SCRIPTS / f"{name}.py").read_text(encoding="utf-8")
    assert text.count(THEIRS) == 1
    assert text.count("trl") == 1
    return text.replace(THEIRS, OURS)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a script on a tiny model; returns its names, with the model's folder and the output folder."""

    def run(name: str) -> dict[str, Any]:
        model = tiny_model_folder(tmp_path / "tiny", "qwen2")
        monkeypatch.setattr(sys, "argv", [name, str(model), str(tmp_path / "out")])
        names: dict[str, Any] = {"__name__": "__main__"}
        exec(compile(script(name), str(SCRIPTS / f"{name}.py"), "exec"), names)
        return {**names, "folder": model, "output": tmp_path / "out"}

    return run


def test_sums_with_five_rewards_run_with_one_import_changed(
    run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = run("gsm8k")
    trainer, output = ran["trainer"], ran["output"]
    assert ran["result"].global_step == trainer.state.global_step == 4
    said = capsys.readouterr().out
    assert "nothing of what this script sets" in said
    assert RunFolder.open(output / "run").recipe().policy.precision == "float32"  # bf16=False
    assert [row["step"] for row in trainer.state.log_history] == [1, 2, 3, 4, 4]
    first = trainer.state.log_history[0]
    assert first["learning_rate"] == 0.0  # a warm-up of one step begins at 0, as transformers' does
    assert {"reward", "rewards/int_reward_func/mean", "completions/clipped_ratio", "kl"} - first.keys() == {
        "kl"
    }
    # What the model saw is the script's alone, in the model's own template.
    tokenizer = AutoTokenizer.from_pretrained(ran["folder"])
    prompts = [row["prompt"] for row in ran["sums"]()]
    rendered = {tokenizer.apply_chat_template(p, tokenize=False, add_generation_prompt=True) for p in prompts}
    rows = read_trace(output / "run").to_pylist()
    assert {row["prompt"] for row in rows} <= rendered
    assert [name for name in rows[0] if name.startswith("rewards/")] == [
        f"rewards/{name}_reward_func"
        for name in ("xmlcount", "soft_format", "strict_format", "int", "correctness")
    ]


def test_checkpoints_and_the_saved_model_are_transformers_own(run: Any) -> None:
    ran = run("gsm8k")
    saved = AutoModelForCausalLM.from_pretrained(ran["output"])
    last = AutoModelForCausalLM.from_pretrained(ran["output"] / "checkpoint-4")
    half = AutoModelForCausalLM.from_pretrained(ran["output"] / "checkpoint-2")
    AutoTokenizer.from_pretrained(ran["output"] / "checkpoint-2")
    assert all(torch.equal(a, b) for a, b in zip(saved.parameters(), last.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(saved.parameters(), half.parameters(), strict=True))
    state = json.loads((ran["output"] / "checkpoint-2" / "trainer_state.json").read_text())
    assert (state["global_step"], len(state["log_history"])) == (2, 2)


def test_completions_are_written_in_trls_table(run: Any) -> None:
    ran = run("gsm8k")
    table = pq.read_table(ran["output"] / "completions" / "completions_00003.parquet")
    names = [
        f"{name}_reward_func" for name in ("xmlcount", "soft_format", "strict_format", "int", "correctness")
    ]
    assert table.column_names == ["step", "prompt", "completion", *names, "advantage"]
    assert table.num_rows == 8
    (row, *_) = table.to_pylist()
    assert row["step"] == 3
    assert [message["role"] for message in row["prompt"]] == ["system", "user"]
    assert [message["role"] for message in row["completion"]] == ["assistant"]


def test_diagnoses_with_async_and_logging_rewards_run(run: Any) -> None:
    ran = run("medical")
    trainer, steps = ran["trainer"], ran["steps"]
    assert steps.begun == 1
    assert steps.steps == [1, 2, 3, 4]
    history = trainer.state.log_history
    assert steps.logs == [{name: value for name, value in row.items() if name != "step"} for row in history]
    logged = [row for row in history if "loss" in row]
    assert [row["step"] for row in logged] == [2, 4]
    assert [row["step_seen"] for row in logged] == [0.5, 2.5]  # steps done before, as TRL has it
    assert logged[1]["kl"] > 0
    assert [row["step"] for row in history if "eval_reward" in row] == [2, 4]
    assert all(
        row["eval_rewards/age_reward/mean"] == pytest.approx(0.1) for row in history if "eval_reward" in row
    )
    assert not list(ran["output"].glob("checkpoint-*"))
    recipe = RunFolder.open(ran["output"] / "run").recipe()
    assert recipe.rewards["diagnosis_reward"].weight == 2.0
    assert trainer.model is ran["model"]


def test_a_reward_that_does_not_apply_is_left_out(run: Any) -> None:
    ran = run("medical")
    by_age: dict[bool, set[float | None]] = {True: set(), False: set()}
    ages = {f"train_dataset {number}": row["age"] for number, row in enumerate(ran["rows"], start=1)}
    for row in read_trace(ran["output"] / "run").to_pylist():
        by_age[ages[row["case_id"]] < 40].add(row["rewards/age_reward"])
    assert by_age == {True: {None}, False: {0.1}}


def test_plain_text_is_continued_as_it_is(run: Any) -> None:
    ran = run("plain_text")
    rows = read_trace(ran["output"] / "run").to_pylist()
    assert {row["prompt"] for row in rows} <= {row["prompt"] for row in ran["data"]}
    assert all(row["rewards/Vowels"] <= 0.9 for row in rows)
    assert ran["result"].global_step == 8  # 2 rounds of 2 passes in 2 steps
    assert [path.name for path in sorted(ran["output"].glob("checkpoint-*"))] == ["checkpoint-8"]
    base = AutoModelForCausalLM.from_pretrained(ran["folder"])
    adapted = PeftModel.from_pretrained(base, ran["output"] / "checkpoint-8")
    config = adapted.peft_config["default"]
    assert (config.r, config.lora_alpha, set(config.target_modules)) == (4, 8, {"q_proj", "v_proj"})
