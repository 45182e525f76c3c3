"""Every field of TRL's GRPOConfig has one class and TRL's default; its batches and schedules become the recipe's."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from transformers import IntervalStrategy, TrainingArguments

from grandrounds.errors import RecipeError
from grandrounds.recipe import Recipe
from grandrounds.recipe_file import recipe_from
from grandrounds.trl import GRPOConfig
from grandrounds.trl.batches import batches_of
from grandrounds.trl.training_fields import FIELDS, FORMER, TRAINING_FIELDS
from grandrounds.trl.translate import translate
from grandrounds.trl.translation import Translation, table

# Fields of TrainingArguments for which TRL has a default of its own.
TRLS_OWN = {"learning_rate", "logging_steps", "gradient_checkpointing", "bf16", "remove_unused_columns"}


def made(prompts: int | None = 100, **fields: Any) -> Translation:
    config = GRPOConfig("out", **fields)
    return translate(config.to_dict(), config.given, prompts)


def recipe(prompts: int = 100, **fields: Any) -> Recipe:
    translated = made(prompts, **fields)
    translated.require_supported()
    return recipe_from(translated.sections())


def test_every_training_argument_is_known_with_its_default() -> None:
    theirs = {
        field.name: field.default if field.default is not dataclasses.MISSING else field.default_factory()  # type: ignore[misc]
        for field in dataclasses.fields(TrainingArguments)
        if field.init
    }
    assert {field.name for field in TRAINING_FIELDS} | TRLS_OWN >= theirs.keys() - {"include_for_metrics"}
    for name in theirs.keys() - TRLS_OWN - {"include_for_metrics"}:
        assert FIELDS[name].default == theirs[name], name


def test_every_field_has_one_class_and_a_reason() -> None:
    assert {field.kind for field in FIELDS.values()} == {"mapped", "ignored", "refused"}
    assert all(field.text for field in FIELDS.values())
    assert all(field.hint for field in FIELDS.values() if field.kind == "refused")
    assert not FORMER.keys() & FIELDS.keys()


def test_every_copied_key_exists() -> None:
    for field in FIELDS.values():
        section: Any = Recipe()
        for key in field.text.split(".") if field.copied else ():
            section = getattr(section, key)


def test_the_defaults_make_a_recipe_of_trls_defaults() -> None:
    made_of_nothing = recipe()
    grpo = made_of_nothing.grpo
    assert (grpo.group_size, grpo.cases_per_round, grpo.minibatches, grpo.iterations) == (8, 1, 1, 1)
    assert (grpo.learning_rate, grpo.schedule, grpo.learning_rate_end) == (1e-6, "linear", 0.0)
    assert (grpo.clip_low, grpo.clip_high, grpo.loss, grpo.adam_beta2) == (0.2, 0.2, "dapo", 0.999)
    assert made_of_nothing.rounds == 300  # 3 epochs of 100 prompts, one a round
    assert made_of_nothing.prompt.raw
    assert made_of_nothing.prompt.system == ""
    assert not made().of_kind("changed", "unsupported", "no effect")


def test_an_unknown_field_is_an_error_with_a_suggestion() -> None:
    with pytest.raises(RecipeError, match=r"no field `num_generation`.*Did you mean `num_generations`"):
        GRPOConfig(num_generation=4)
    config = GRPOConfig("out")
    with pytest.raises(RecipeError, match="Did you mean `max_steps`"):
        config.max_step = 3


@pytest.mark.parametrize("name", FORMER)
def test_a_former_field_says_what_became_of_it(name: str) -> None:
    with pytest.raises(RecipeError, match="no field") as caught:
        GRPOConfig(**{name: 1})
    assert caught.value.hint == FORMER[name]


REFUSED = {
    "top_p": 0.9,
    "top_k": 50,
    "min_p": 0.1,
    "repetition_penalty": 1.1,
    "generation_kwargs": {"num_beams": 2},
    "shuffle_dataset": False,
    "push_to_hub": True,
    "load_best_model_at_end": True,
    "deepspeed": "zero3.json",
    "sync_ref_model": True,
    "optim": "sgd",
    "lr_scheduler_type": "polynomial",
    "model_init_kwargs": {"revision": "main"},
    "scale_rewards": "median",
    "save_strategy": "best",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_done_is_refused_with_a_way_out(name: str) -> None:
    translated = made(**{name: REFUSED[name]})
    with pytest.raises(RecipeError) as caught:
        translated.require_supported()
    assert name in caught.value.where
    assert caught.value.hint


def test_a_field_that_is_refused_at_all_is_refused_at_any_other_value() -> None:
    other = {True: False, False: True, None: 1}
    for field in FIELDS.values():
        if field.kind == "refused":
            value = other.get(field.default, "other") if field.default in (True, False, None) else 0.5
            assert made(**{field.name: value}).notes[field.name].kind == "unsupported", field.name


def test_what_is_set_and_has_no_effect_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    translated = made(bf16=True, gradient_checkpointing=False, project="other", vllm_mode="server")
    assert {note.field for note in translated.of_kind("no effect")} == {
        "bf16",
        "gradient_checkpointing",
        "project",
        "vllm_mode",
    }
    assert all(
        note.text in line
        for note, line in zip(
            translated.of_kind("no effect"), table(translated.of_kind("no effect")), strict=True
        )
    )


@pytest.mark.parametrize(
    ("fields", "cases", "minibatches", "steps"),
    [
        ({"per_device_train_batch_size": 16}, 2, 1, 1),
        ({"per_device_train_batch_size": 4, "gradient_accumulation_steps": 4}, 2, 1, 1),
        ({"per_device_train_batch_size": 8, "steps_per_generation": 4}, 4, 4, 4),
        ({"per_device_train_batch_size": 8, "generation_batch_size": 32}, 4, 4, 4),
        ({"per_device_train_batch_size": 8, "steps_per_generation": 2, "num_iterations": 3}, 2, 2, 6),
        (
            {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 4, "steps_per_generation": 2},
            4,
            1,
            1,
        ),
    ],
)
def test_trls_batches_become_rounds(fields: dict[str, int], cases: int, minibatches: int, steps: int) -> None:
    batches = batches_of(GRPOConfig("out", **fields).to_dict())
    assert (batches.cases, batches.minibatches, batches.steps_per_round) == (cases, minibatches, steps)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"per_device_train_batch_size": 4}, "no number of whole groups"),
        ({"num_generations": 1}, "nothing to compare with"),
        ({"generation_batch_size": 12}, "no multiple of per_device_train_batch_size"),
        ({"generation_batch_size": 16, "steps_per_generation": 2}, "says the same"),
        ({"gradient_accumulation_steps": 2, "steps_per_generation": 3}, "would mix completions"),
        ({"gradient_accumulation_steps": 2, "steps_per_generation": 1, "num_iterations": 2}, "would mix"),
        ({"per_device_train_batch_size": 4, "steps_per_generation": 4}, "groups are not divided"),
    ],
)
def test_what_does_not_divide_is_refused(fields: dict[str, int], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        recipe(**fields)


def test_epochs_and_shares_are_counted_in_steps_as_transformers_does() -> None:
    # 10 prompts, 4 at once: the last 2 of an epoch are left out, 2 generation batches, 2 steps each.
    counted = recipe(
        10, per_device_train_batch_size=16, steps_per_generation=2, num_train_epochs=3, warmup_steps=0.34
    )
    assert counted.grpo.cases_per_round == 4
    assert counted.rounds == 6
    assert counted.grpo.warmup_rounds == 3  # 5 of 12 steps, in rounds of 2
    assert (
        "5 steps become 3 whole rounds"
        in made(
            10, per_device_train_batch_size=16, steps_per_generation=2, num_train_epochs=3, warmup_steps=0.34
        )
        .notes["warmup_steps"]
        .text
    )


def test_steps_that_are_no_whole_rounds_are_said() -> None:
    translated = made(max_steps=5, steps_per_generation=2, per_device_train_batch_size=8)
    assert translated.recipe["rounds"] == 3
    assert [note.field for note in translated.of_kind("changed")] == ["max_steps"]


def test_fewer_prompts_than_a_round_are_refused() -> None:
    with pytest.raises(RecipeError, match="there are 3 prompts, fewer than the 4"):
        recipe(3, per_device_train_batch_size=32)


@pytest.mark.parametrize(
    ("fields", "keys"),
    [
        ({"lr_scheduler_type": "constant", "warmup_steps": 5}, {"schedule": "constant", "warmup_rounds": 0}),
        ({"lr_scheduler_type": "constant_with_warmup", "warmup_steps": 5}, {"warmup_rounds": 5}),
        (
            {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr": 1e-7}},
            {"schedule": "cosine", "learning_rate_end": 0.1},
        ),
        ({"loss_type": "cispo", "epsilon_high": 5.0}, {"clip_high": 4.0}),
        ({"epsilon": 0.1}, {"clip_low": 0.1, "clip_high": 0.1}),
        (
            {"loss_type": "sapo"},
            {"loss_options": {"temperature_positive": 1.0, "temperature_negative": 1.05}},
        ),
        ({"scale_rewards": False}, {"advantage_scale": "none"}),
        ({"multi_objective_aggregation": "normalize_then_sum"}, {"aggregation": "normalize_then_sum"}),
        ({"beta": 0.04}, {"beta": 0.04, "kl_correction": True}),
        ({"beta": 0.04, "use_bias_correction_kl": False}, {"kl_correction": False}),
        ({"use_adaptive_entropy": True}, {"entropy_target": 0.2, "entropy_bonus_step": 0.005}),
        ({"optim": "paged_adamw_8bit"}, {"optimizer": "adamw_8bit"}),
        ({"top_entropy_quantile": 0.2}, {"top_entropy": 0.2}),
    ],
)
def test_a_field_becomes_its_keys(fields: dict[str, Any], keys: dict[str, Any]) -> None:
    grpo = recipe(**fields).grpo
    for key, value in keys.items():
        assert getattr(grpo, key) == (pytest.approx(value) if isinstance(value, float) else value)


@pytest.mark.parametrize(
    ("fields", "precision"),
    [
        ({}, "auto"),
        ({"bf16": True}, "auto"),
        ({"bf16": False}, "float32"),
        ({"bf16": False, "fp16": True}, "auto"),
        ({"bf16": False, "model_init_kwargs": {"dtype": "bfloat16"}}, "bfloat16"),
    ],
)
def test_no_bf16_is_float32(fields: dict[str, Any], precision: str) -> None:
    assert recipe(**fields).policy.precision == precision


def test_an_enumeration_is_its_value() -> None:
    assert GRPOConfig("out", save_strategy=IntervalStrategy.NO).save_strategy == "no"


def test_the_shown_settings_are_those_that_were_set() -> None:
    assert repr(GRPOConfig("out", beta=0.1)) == "GRPOConfig(beta=0.1, output_dir='out')"


def test_the_pages_tables_are_what_the_fields_say() -> None:
    script = Path(__file__).parents[1] / "scripts" / "trl_fields.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
