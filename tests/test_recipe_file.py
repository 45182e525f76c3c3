"""Recipes as files: every mistake has its place and its hint."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from grandrounds.errors import RecipeError, RewardError
from grandrounds.recipe import Recipe, RewardRecipe
from grandrounds.recipe_file import (
    dump_recipe,
    load_recipe,
    parse_override,
    recipe_from,
    shipped_recipes,
    with_overrides,
)
from grandrounds.recipe_help import explain_recipe, explain_rows
from grandrounds.recipe_switches import SWITCHES
from grandrounds.rewards import build_rewards

YAML = """\
name: trial
grpo:
  group_size: 4
  learning_rate: 1e-4  # YAML 1.1 alone would read this as text
rewards:
  accuracy: { weight: 2 }
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "trial.yaml"
    path.write_text(YAML)
    return path


def mistake(path: Path | str, *overrides: str) -> RecipeError:
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, overrides)
    return caught.value


def test_a_file_with_overrides_becomes_a_recipe(file: Path) -> None:
    recipe = load_recipe(
        file, ["grpo.group_size=16", "cases.source=a=b.jsonl", "policy.device=cpu", "seed=3"]
    )
    assert (recipe.name, recipe.seed) == ("trial", 3)
    assert recipe.grpo.group_size == 16
    assert recipe.grpo.learning_rate == 1e-4
    assert recipe.cases.source == "a=b.jsonl"
    assert list(recipe.rewards) == ["accuracy"]


def test_overrides_are_yaml() -> None:
    assert parse_override("a.b=[x, y]") == (("a", "b"), ["x", "y"])
    assert parse_override("a=1e-5") == (("a",), 1e-5)
    assert parse_override("a=null") == (("a",), None)
    assert parse_override("a=") == (("a",), "")
    for broken in ("a", "=1", "a..b=1", "a=[1"):
        with pytest.raises(RecipeError):
            parse_override(broken)


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_every_shipped_recipe_is_valid_and_survives_being_written(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    (tmp_path / "recipe.yaml").write_text(dump_recipe(recipe))
    assert load_recipe(tmp_path / "recipe.yaml") == recipe
    # The rewards of these need what their cases know, or a sandbox.
    if name not in ("clinic", "clinic-llm", "phenopackets", "code"):
        build_rewards(recipe.rewards, knowledge=None, base=tmp_path)


def test_the_five_recipes_are_shipped() -> None:
    assert {"clinic", "phenopackets", "medqa", "pubmedqa", "own-data"} <= shipped_recipes().keys()


@pytest.mark.parametrize(
    ("override", "meant"),
    [
        ("grpo.group_sise=8", "grpo.group_size"),
        ("polcy.model=x", "policy"),
        ("policy.scratch.layer=2", "policy.scratch.layers"),
        ("rewards.accuracy.wieght=1", "rewards.accuracy.weight"),
        ("group_size=8", "grpo.group_size"),  # right name, wrong section
    ],
)
def test_an_unknown_key_in_an_override_is_named_with_the_one_meant(
    file: Path, override: str, meant: str
) -> None:
    error = mistake(file, override)
    assert f"no key `{override.partition('=')[0]}`".split(".")[0] in error.what
    assert error.where == f"--set {override}"
    assert f"Did you mean `{meant}`?" in error.hint


def test_an_unknown_key_in_a_file_is_named_with_its_line(file: Path) -> None:
    file.write_text(YAML.replace("group_size", "group_sise"))
    error = mistake(file)
    assert "`grpo.group_sise`" in error.what
    assert error.where == f"{file}:3"
    assert "Did you mean `grpo.group_size`?" in error.hint


def test_a_wrong_type_in_a_file_is_named_with_its_line_and_what_the_key_takes(file: Path) -> None:
    file.write_text(YAML.replace("weight: 2", "weight: heavy"))
    error = mistake(file)
    assert "`rewards.accuracy.weight` is 'heavy'" in error.what
    assert error.where == f"{file}:6"
    assert "takes a number" in error.hint


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("grpo.group_size=x", "grpo.group_size"),
        ("grpo.group_size=1", "grpo.group_size"),
        ("grpo.schedule=fancy", "grpo.schedule"),
        ("grpo.learning_rate=.inf", "grpo.learning_rate"),
        ("cases=3", "cases"),
        ("rewards.accuracy=3", "rewards.accuracy"),
        ("policy.lora_targets=3", "policy.lora_targets"),
        ("seed=1.5", "seed"),
        ("name.first=x", "name"),
        ("prompt.answer_tag=reasoning", "prompt.answer_tag"),
        ("prompt.system=First: this", "prompt.system"),
        ("grpo.group_size=[8]", "grpo.group_size"),
    ],
)
def test_a_wrong_value_names_its_key_and_a_mend(file: Path, override: str, named: str) -> None:
    error = mistake(file, override)
    assert named in error.what
    assert error.hint
    assert "dict" not in error.what + error.hint


def test_a_text_that_yaml_reads_otherwise_is_to_be_quoted(file: Path) -> None:
    for text in ("First: this", "3", "2026-01-02"):
        assert """'prompt.system="a: b"'""" in mistake(file, f"prompt.system={text}").hint
    assert load_recipe(file, ['prompt.system="First: this"']).prompt.system == "First: this"


def test_one_components_key_changes_the_default_rewards_without_dropping_them(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("name: r\n")
    recipe = load_recipe(tmp_path / "r.yaml", ["rewards.accuracy.weight=3"])
    assert {name: reward.weight for name, reward in recipe.rewards.items()} == {
        "accuracy": 3.0,
        "format": 0.2,
    }


def test_a_recipe_can_be_changed_by_overrides_too(file: Path) -> None:
    recipe = with_overrides(load_recipe(file), ["evaluation.samples=4", "rewards.accuracy.weight=3"])
    assert (recipe.evaluation.samples, recipe.rewards["accuracy"].weight, recipe.grpo.group_size) == (
        4,
        3.0,
        4,
    )
    with pytest.raises(RecipeError, match=r"evaluation\.sample`"):
        with_overrides(recipe, ["evaluation.sample=4"])


def test_an_unknown_recipe_name_suggests_a_shipped_one() -> None:
    assert "Did you mean `clinic`?" in mistake("clinick").hint
    assert "phenopackets" in mistake("xyzzy").hint
    assert "no such file" in mistake("recipes/mine.yaml").what


def test_a_folder_is_no_recipe(tmp_path: Path) -> None:
    assert "resume" in mistake(tmp_path).hint


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("name: a\nseed: [1\n", None),
        ("name: a\nseed: 1\nseed: 2\n", 3),
        ("- a\n", None),
        ("just text\n", None),
        ("a: b: c\n", 1),
    ],
)
def test_broken_yaml_is_one_clear_message(file: Path, text: str, line: int | None) -> None:
    file.write_text(text)
    error = mistake(file)
    assert error.where == f"{file}:{line}" if line else error.where.startswith(str(file))
    assert error.hint


def test_a_file_that_is_no_text_is_one_clear_message(file: Path) -> None:
    file.write_bytes(b"\xff\xfe\x00\x01")
    assert "cannot be read" in mistake(file).what


def test_an_empty_file_is_the_default_recipe(file: Path) -> None:
    file.write_text("# nothing\n")
    assert load_recipe(file) == Recipe()


@settings(max_examples=60, deadline=None)
@example("0E0")
@example("\x85")
@example("1e5 ")
@given(st.text(max_size=20))
def test_any_text_survives_in_a_recipe(text: str) -> None:
    written = dump_recipe(recipe_from({"name": text}))
    assert parse_override(f"x={written}")[1]["name"] == text


@pytest.mark.parametrize("section", ["sft", "grpo"])
def test_moments_in_8_bits_are_not_of_float64(file: Path, section: str) -> None:
    error = mistake(file, "policy.precision=float64", f"{section}.optimizer=adamw_8bit")
    assert f"{section}.optimizer: adamw_8bit computes in float32" in error.what


def test_every_key_is_explained() -> None:
    rows = explain_rows()
    assert [row.key for row in rows if not row.help or not row.type] == []
    keys = {row.key for row in rows}
    assert {"cases.source", "grpo.group_size", "checkpoint.every", "rewards.NAME.weight", "seed"} <= keys
    assert "grpo.group_size (a whole number; default 8)" in explain_recipe()


ON = {
    "grpo.beta": 0.1,
    "grpo.entropy_target": 0.5,
    "grpo.correction": "token_mask",
    "grpo.schedule": "cosine",
    "evaluation.samples": 4,
    "evaluation.every": 5,
}
OTHER = {
    "grpo.kl": "k1",
    "grpo.kl_correction": True,
    "grpo.entropy_bonus_step": 0.1,
    "grpo.entropy_bonus_max": 0.5,
    "grpo.correction_high": 5.0,
    "grpo.correction_low": 0.5,
    "grpo.learning_rate_end": 0.5,
    "evaluation.temperature": 0.5,
    "evaluation.top_p": 0.5,
    "evaluation.top_k": 5,
    "evaluation.min_p": 0.5,
    "evaluation.best": "format_rate",
    "evaluation.patience": 2,
}


@pytest.mark.parametrize(
    ("switch", "key"), [(switch, key) for switch, keys in SWITCHES.items() for key in keys]
)
def test_a_key_without_its_switch_is_refused_and_with_it_taken(file: Path, switch: str, key: str) -> None:
    error = mistake(file, f"{key}={OTHER[key]}")
    assert f"`{key}` is {OTHER[key]!r}, but does nothing without `{switch}`" in error.what
    assert error.where == f"--set {key}={OTHER[key]}"
    assert error.hint == f"Set {switch} too, or leave {key} out."
    taken = load_recipe(file, [f"{key}={OTHER[key]}", f"{switch}={ON[switch]}"])
    section, name = key.split(".")
    assert getattr(getattr(taken, section), name) == OTHER[key]


def test_a_key_without_its_switch_in_a_file_is_named_with_its_line(file: Path) -> None:
    file.write_text(YAML.replace("group_size: 4", "entropy_bonus_step: 0.1"))
    assert mistake(file).where == f"{file}:3"


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["grpo.correction=token_mask", "grpo.correction_low=4"], "grpo.correction_high = 3"),
        (["grpo.entropy_target=1", "grpo.entropy_bonus=2"], "grpo.entropy_bonus_max = 1"),
        (["grpo.cases_per_round=2", "grpo.minibatches=3"], "grpo.cases_per_round = 2"),
    ],
)
def test_bounds_that_contradict_each_other_are_refused(file: Path, overrides: list[str], named: str) -> None:
    assert named in mistake(file, *overrides).what


@pytest.mark.parametrize("setting", [{"completions": "chat"}, {"memory_gb": 8.0}])
def test_a_built_in_reward_refuses_settings_of_functions(setting: dict[str, object]) -> None:
    with pytest.raises(RewardError) as caught:
        build_rewards({"accuracy": RewardRecipe(**setting)})  # type: ignore[arg-type]
    assert next(iter(setting)) in caught.value.what
    assert caught.value.where == "rewards.accuracy"
