"""YAML for GRPO of TRL, Unsloth and axolotl becomes a recipe, and every key of it is accounted for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from grandrounds.cli.app import app
from grandrounds.errors import RecipeError
from grandrounds.recipe_file import load_recipe
from grandrounds.trl.foreign import ALIASES, IGNORED, OWN, REFUSED
from grandrounds.trl.importer import Imported, import_trl
from grandrounds.trl.training_fields import FIELDS

TRL = """
model_name_or_path: Qwen/Qwen3-0.6B
dtype: bfloat16
attn_implementation: flash_attention_2
dataset_name: trl-lib/DeepMath-103K
reward_funcs: [accuracy_reward, my_rewards.brevity]
reward_weights: [1.0, 0.5]
use_peft: true
lora_r: 32
lora_alpha: 64
lora_dropout: 0.05
lora_target_modules: [q_proj, v_proj]
learning_rate: 1e-5
lr_scheduler_type: cosine
warmup_ratio: 0.1
per_device_train_batch_size: 8
gradient_accumulation_steps: 4
num_generations: 8
max_completion_length: 1024
max_prompt_length: 512
max_steps: 200
temperature: 0.9
beta: 0.04
use_vllm: true
bf16: true
gradient_checkpointing: true
logging_steps: 5
save_steps: 50
report_to: [wandb]
output_dir: runs/deepmath
top_p: 0.95
push_to_hub: true
something_else: 3
"""
UNSLOTH = """
model:
  model_name: unsloth/Llama-3.2-1B-Instruct
  max_seq_length: 1024
  load_in_4bit: true
  fast_inference: true
  gpu_memory_utilization: 0.6
lora:
  r: 16
  target_modules: [q_proj, k_proj]
  lora_alpha: 16
  use_gradient_checkpointing: unsloth
  random_state: 3407
data:
  dataset: openai/gsm8k
training:
  learning_rate: 5e-6
  optim: paged_adamw_8bit
  per_device_train_batch_size: 6
  num_generations: 6
  max_prompt_length: 256
  max_completion_length: 768
  max_steps: 250
  save_steps: 250
  max_grad_norm: 0.1
  output_dir: outputs
"""
AXOLOTL = """
base_model: Qwen/Qwen2.5-1.5B
rl: grpo
trl:
  beta: 0.001
  max_completion_length: 256
  use_vllm: true
  num_generations: 4
  reward_funcs: [rewards.rand_reward_func]
  reward_weights: [1.0]
  vllm_gpu_memory_utilization: 0.7
datasets:
  - path: openai/gsm8k
    name: main
    type: rewards.transform
adapter: qlora
lora_r: 8
lora_alpha: 16
lora_target_linear: true
micro_batch_size: 4
gradient_accumulation_steps: 2
num_epochs: 1
max_steps: 100
optimizer: adamw_torch_fused
lr_scheduler: constant_with_warmup
warmup_steps: 10
learning_rate: 2e-5
sequence_len: 2048
bf16: auto
flash_attention: true
wandb_project: grpo
val_set_size: 0.1
special_tokens:
  pad_token: <pad>
"""
FILES = {"trl": TRL, "unsloth": UNSLOTH, "axolotl": AXOLOTL}


def imported(text: str, folder: Path) -> Imported:
    path = folder / "settings.yaml"
    path.write_text(text, encoding="utf-8")
    return import_trl(path)


def leaves(values: dict[str, Any]) -> Iterator[str]:
    """Every key of a file that is no section."""
    for key, value in values.items():
        if isinstance(value, dict) and key in ("model", "lora", "data", "training", "trl"):
            yield from leaves(value)
        else:
            yield key


@pytest.mark.parametrize("kind", FILES)
def test_every_key_is_accounted_for(kind: str, tmp_path: Path) -> None:
    made = imported(FILES[kind], tmp_path)
    noted = {note.field.rpartition(".")[2] for note in made.notes}
    assert set(leaves(yaml.safe_load(FILES[kind]))) <= noted
    assert all(note.text for note in made.notes)
    (tmp_path / "recipe.yaml").write_text(made.text, encoding="utf-8")
    assert load_recipe(str(tmp_path / "recipe.yaml")) == made.recipe


def kinds(made: Imported) -> dict[str, str]:
    return {note.field.rpartition(".")[2]: note.kind for note in made.notes}


def test_trls_own_file(tmp_path: Path) -> None:
    made = imported(TRL, tmp_path)
    recipe, found = made.recipe, kinds(made)
    assert (recipe.policy.model, recipe.policy.adapter, recipe.policy.precision) == (
        "Qwen/Qwen3-0.6B",
        "lora",
        "bfloat16",
    )
    assert (recipe.policy.lora_rank, recipe.policy.lora_targets) == (32, ["q_proj", "v_proj"])
    assert (recipe.rounds, recipe.grpo.cases_per_round, recipe.grpo.group_size) == (200, 4, 8)
    assert (recipe.grpo.schedule, recipe.grpo.warmup_rounds, recipe.grpo.kl_correction) == (
        "cosine",
        20,
        True,
    )
    assert recipe.rewards["accuracy_reward"].use == "trl.rewards:accuracy_reward"
    assert (recipe.rewards["brevity"].use, recipe.rewards["brevity"].weight) == ("my_rewards:brevity", 0.5)
    assert {name for name, kind in found.items() if kind == "unsupported"} == {
        "top_p",
        "push_to_hub",
        "something_else",
    }
    assert found["reward_funcs"] == "changed"
    assert found["use_vllm"] == found["max_prompt_length"] == found["lora_dropout"] == "no effect"
    assert "# unsupported: top_p:" in made.text


def test_unsloths_file(tmp_path: Path) -> None:
    made = imported(UNSLOTH, tmp_path)
    recipe = made.recipe
    assert (recipe.policy.model, recipe.policy.quantize) == ("unsloth/Llama-3.2-1B-Instruct", "4bit")
    assert (recipe.policy.adapter, recipe.policy.lora_rank, recipe.seed) == ("lora", 16, 3407)
    assert (recipe.cases.source, recipe.rounds, recipe.grpo.cases_per_round) == ("openai/gsm8k", 250, 1)
    assert (recipe.grpo.max_new_tokens, recipe.grpo.optimizer) == (768, "adamw_8bit")
    assert kinds(made)["rewards"] == "changed"


def test_axolotls_file(tmp_path: Path) -> None:
    made = imported(AXOLOTL, tmp_path)
    recipe, found = made.recipe, kinds(made)
    assert (recipe.policy.quantize, recipe.policy.adapter, recipe.policy.lora_targets) == (
        "4bit",
        "lora",
        "all-linear",
    )
    assert (recipe.grpo.schedule, recipe.grpo.warmup_rounds, recipe.grpo.cases_per_round) == (
        "constant",
        10,
        2,
    )
    assert (recipe.cases.source, recipe.cases.test_fraction) == ("openai/gsm8k", 0.1)
    assert recipe.rewards["rand_reward_func"].use == "rewards:rand_reward_func"
    assert {name for name, kind in found.items() if kind == "unsupported"} == {
        "name",
        "type",
        "special_tokens",
    }


def test_epochs_are_counted_where_the_data_is_a_file(tmp_path: Path) -> None:
    rows = [{"prompt": f"What is {n}?", "solution": str(n)} for n in range(40)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    text = (
        f"model_name: m/m\ndataset_name: {tmp_path / 'rows.jsonl'}\nval_set_size: 0.0\nnum_train_epochs: 2\n"
    )
    assert imported(text, tmp_path).recipe.rounds == 80
    made = imported(text.replace(str(tmp_path), "some/where"), tmp_path)
    assert "set rounds to prompts / 1 × 2" in next(
        note.text for note in made.notes if note.field == "num_train_epochs"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("learning_rate: 1e-5", "names no model"),
        (
            "model_name: m\nbase_model: n\nnum_epochs: 1\nnum_train_epochs: 2",
            "says otherwise than another key",
        ),
        ("model_name: m\nreward_funcs: [a.b]\nreward_weights: [1, 2]", "2 weights for 1 rewards"),
        ("model_name: m\nbeta: much", "grpo.beta"),
        ("a: [", "no valid YAML"),
    ],
)
def test_where_no_recipe_can_be_made_is_said(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=said):
        imported(text, tmp_path)


def test_a_name_stands_in_one_table() -> None:
    tables = [FIELDS, OWN, IGNORED, REFUSED, ALIASES]
    names = [name for table in tables for name in table]
    assert len(names) == len(set(names))
    assert set(ALIASES.values()) <= FIELDS.keys() | OWN.keys()


def test_the_command_writes_a_recipe_and_overwrites_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("grpo.yaml").write_text(TRL, encoding="utf-8")
    done = CliRunner().invoke(app, ["import", "trl", "grpo.yaml"])
    assert done.exit_code == 0
    assert "unsupported" in done.output
    assert "Written: grpo-recipe.yaml (1 changed, 3 unsupported)" in done.output
    assert load_recipe("grpo-recipe.yaml").rounds == 200
    again = CliRunner().invoke(app, ["import", "trl", "grpo.yaml"])
    assert isinstance(again.exception, RecipeError)
    other = CliRunner().invoke(app, ["import", "trl", "grpo.yaml", "--out", "other.yaml"])
    assert other.exit_code == 0


def test_the_table_of_keys_fits_a_narrow_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "50")
    (tmp_path / "narrow.yaml").write_text(TRL, encoding="utf-8")
    shown = CliRunner().invoke(app, ["import", "trl", "narrow.yaml"]).output
    table = shown.split("Written: ")[0]
    assert "mapped: policy.model" in table
    assert all(len(line) <= 50 for line in table.splitlines())


def test_a_recipe_says_where_its_run_will_be(tmp_path: Path) -> None:
    (tmp_path / "out.yaml").write_text(TRL, encoding="utf-8")
    note = next(note for note in import_trl(tmp_path / "out.yaml").notes if note.field == "output_dir")
    assert "runs/NAME" in note.text


def test_a_file_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="there is no such file"):
        import_trl(tmp_path / "missing.yaml")
