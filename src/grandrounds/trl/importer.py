"""TRL's YAML as a recipe; Unsloth's and axolotl's for GRPO too, whose keys are TRL's under other names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grandrounds.errors import CaseError, RecipeError
from grandrounds.loading import did_you_mean
from grandrounds.recipe import Recipe
from grandrounds.recipe_file import dump_values, read_yaml, recipe_from
from grandrounds.trl.foreign import ALIASES, IGNORED, OWN, REFUSED
from grandrounds.trl.training_fields import FIELDS
from grandrounds.trl.translate import translate
from grandrounds.trl.translation import REWARD, Note, Translation

# Sections whose keys are read as if they stood at the top.
SECTIONS = frozenset(
    [
        "trl",
        "grpo",
        "grpo_config",
        "training",
        "training_args",
        "training_arguments",
        "model",
        "lora",
        "peft",
        "peft_config",
        "data",
        "dataset",
        "logging",
        "trainer",
        "generation",
        "vllm",
        "saving",
        "optimizer",
    ]
)
# What some of TRL's fields become in a recipe, which has no output_dir.
IN_A_RECIPE = {
    "output_dir": "the recipe's name; the run's folder is runs/NAME, or that of --out",
    "log_completions": "a run keeps every completion",
}
LORA = ("lora_r", "lora_alpha", "lora_target_modules", "lora_target_linear", "adapter", "use_peft")


@dataclass(frozen=True)
class Imported:
    """A recipe, its text, and what became of each key of the file it was made from."""

    recipe: Recipe
    text: str
    notes: tuple[Note, ...]


def import_trl(path: Path) -> Imported:
    """The recipe of a TRL, Unsloth or axolotl YAML file. RecipeError where none can be made."""
    values, _ = read_yaml(path)
    notes: dict[str, Note] = {}
    fields: dict[str, Any] = {}
    own: dict[str, Any] = {}
    for key, name, value in _flat(values):
        _sort(key, name, value, fields, own, notes)
    prompts = _prompts(own)
    made = translate({**{name: one.default for name, one in FIELDS.items()}, **fields}, fields, prompts)
    for part in (_model, _adapter, _data, _rewards):
        part(own, made, notes)
    listed = _listed(made, fields, notes)
    recipe = recipe_from(made.sections())
    return Imported(recipe, _text(path, made, listed), tuple(listed))


def _flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str, Any]]:
    """(key as written, TRL's or our name of it, value), with sections opened."""
    for key, value in values.items():
        name = str(key)
        if isinstance(value, Mapping) and name.lower() in SECTIONS:
            yield from _flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", ALIASES.get(name, name), value


def _sort(
    key: str, name: str, value: Any, fields: dict[str, Any], own: dict[str, Any], notes: dict[str, Note]
) -> None:
    """Put one key where it belongs, or note why it belongs nowhere."""
    if name in FIELDS:
        if name in fields and fields[name] != value:
            raise RecipeError(
                f"`{key}` says otherwise than another key for TRL's `{name}`",
                where=key,
                hint="Remove one of them.",
            )
        fields[name] = value
        if key != name:
            notes[key] = Note(key, value, "mapped", f"TRL's {name}")
    elif name in OWN:
        own[name] = value
        notes[key] = Note(key, value, "mapped", OWN[name])
    elif name in IGNORED or name.startswith("wandb_"):
        notes[key] = Note(key, value, "no effect", IGNORED.get(name, IGNORED["wandb"]))
    elif name in REFUSED:
        if value not in (None, False, "", [], {}):
            notes[key] = Note(key, value, "unsupported", REFUSED[name])
        else:
            notes[key] = Note(key, value, "no effect", "off, as here")
    else:
        hint = did_you_mean(name, [*FIELDS, *OWN, *ALIASES])
        notes[key] = Note(key, value, "unsupported", f"it is not known. {hint}".strip())


def _model(own: Mapping[str, Any], made: Translation, notes: dict[str, Note]) -> None:
    if not own.get("model_name_or_path"):
        raise RecipeError(
            "the file names no model", where="model_name_or_path", hint="Add it: model_name_or_path: NAME."
        )
    made.recipe["policy.model"] = own["model_name_or_path"]
    dtype = str(own.get("dtype") or "auto").removeprefix("torch.")
    if dtype == "auto":
        pass  # the file's bf16 has decided
    elif dtype in ("float32", "bfloat16"):
        made.recipe["policy.precision"] = dtype
    else:
        _change(notes, "dtype", f"policy.precision: auto; policies do not compute in {dtype}")
    if own.get("load_in_4bit") or own.get("adapter") == "qlora":
        made.recipe["policy.quantize"] = "4bit"


def _adapter(own: Mapping[str, Any], made: Translation, notes: dict[str, Note]) -> None:
    """LoRA where the file asks for it, or for 4 bits, which nothing else can train."""
    asked = own.get("use_peft") or own.get("adapter") or made.recipe.get("policy.quantize") == "4bit"
    if own.get("use_peft") is None and "adapter" not in own and "lora_r" in own:
        asked = True  # Unsloth's files say it by its rank
    if not asked:
        for name in LORA:
            _change(notes, name, "the file asks for no adapter: all weights are trained", only_if=name in own)
        return
    made.recipe["policy.adapter"] = "lora"
    for name, key in (("lora_r", "policy.lora_rank"), ("lora_alpha", "policy.lora_alpha")):
        if name in own:
            made.recipe[key] = own[name]
    targets = own.get("lora_target_modules")
    if own.get("lora_target_linear") or targets in (None, [], ["all-linear"]):
        targets = "all-linear"
    made.recipe["policy.lora_targets"] = targets


def _data(own: Mapping[str, Any], made: Translation, notes: dict[str, Note]) -> None:
    source = _source(own)
    if source is None:
        made.recipe["cases.source"] = "cases.jsonl"
        notes["cases.source"] = Note(
            "cases.source", None, "changed", "no data set is named: set cases.source"
        )
    else:
        made.recipe["cases.source"] = source
    if isinstance(share := own.get("val_set_size"), float) and 0 <= share < 1:
        made.recipe["cases.test_fraction"] = share
    datasets = own.get("datasets")
    if isinstance(datasets, list) and datasets:
        first = datasets[0] if isinstance(datasets[0], Mapping) else {}
        lost = [f"datasets[0].{key}" for key in first if key not in ("path", "split")]
        lost += [f"datasets[{place}]" for place in range(1, len(datasets))]
        for key in lost:
            notes[key] = Note(
                key, "…", "unsupported", "rows are read as published: see cases.columns, cases.mix"
            )
    if own.get("dataset_train_split", "train") != "train":
        notes["dataset_train_split"] = Note(
            "dataset_train_split", own["dataset_train_split"], "unsupported", "the split `train` is read"
        )


def _source(own: Mapping[str, Any]) -> str | None:
    datasets = own.get("datasets")
    if isinstance(datasets, list) and datasets:
        first = datasets[0]
        return str(first.get("path")) if isinstance(first, Mapping) else str(first)
    return own.get("dataset_name")


def _prompts(own: Mapping[str, Any]) -> int | None:
    """How many cases a file on this machine holds, for epochs; None where that is not known."""
    from grandrounds.cases.load import load_cases

    source = _source(own)
    if source is None or not Path(source).is_file():
        return None
    share = own.get("val_set_size")
    cases = {"source": source, "test_fraction": share if isinstance(share, float) else 0.15}
    try:
        return len(load_cases(recipe_from({"cases": cases}).cases, seed=0).train)
    except CaseError:
        return None


def _rewards(own: Mapping[str, Any], made: Translation, notes: dict[str, Note]) -> None:
    """Functions by their import paths, and a reward model."""
    named = own.get("reward_funcs") or []
    named = [named] if isinstance(named, str) else list(named)
    weights = made.values["reward_weights"]
    uses = [f"classifier:{own['reward_model_name_or_path']}"] if own.get("reward_model_name_or_path") else []
    uses += [_use(one) for one in named]
    if not uses:
        notes["rewards"] = Note(
            "rewards",
            None,
            "changed",
            "no reward function is named: set rewards; until then accuracy and format",
        )
        return
    if weights is not None and len(weights) != len(uses):
        raise RecipeError(
            f"there are {len(weights)} weights for {len(uses)} rewards",
            where="reward_weights",
            hint="Give one for each.",
        )
    for place, use in enumerate(uses):
        name = use.rpartition(":")[2].rpartition("/")[2].replace(".", "_")
        made.recipe[f"rewards.{name}"] = {
            "use": use,
            "weight": float(weights[place]) if weights is not None else 1.0,
            **REWARD,
        }
    if theirs := [use.partition(":")[2] for use in uses if use.startswith("trl.")]:
        _change(notes, "reward_funcs", f"{', '.join(theirs)} need TRL to be installed")


def _use(name: str) -> str:
    """ "my.module.function" as our recipes write it; TRL's own by their module."""
    if ":" in name:
        return name
    module, _, function = str(name).rpartition(".")
    return f"{module or 'trl.rewards'}:{function}"


def _change(notes: dict[str, Note], name: str, text: str, only_if: bool = True) -> None:
    """Note that something of these keys becomes something else."""
    for key, note in list(notes.items()):
        if only_if and ALIASES.get(key.rpartition(".")[2], key.rpartition(".")[2]) == name:
            notes[key] = Note(key, note.value, "changed", text)


def _listed(made: Translation, fields: Mapping[str, Any], notes: Mapping[str, Note]) -> list[Note]:
    """A note for every key of the file, in its order; what TRL's fields became under the file's names."""
    written = {ALIASES.get(key.rpartition(".")[2], key.rpartition(".")[2]): key for key in notes}
    found = dict(notes)
    for name, note in made.notes.items():
        if name in fields or note.kind in ("unsupported", "changed"):
            key, text = written.get(name, name), IN_A_RECIPE.get(name, note.text)
            found[key] = Note(key, note.value, note.kind, text, note.hint)
    return list(found.values())


def _text(path: Path, made: Translation, notes: list[Note]) -> str:
    """The recipe as YAML, headed by what it could not take over."""
    lines = [
        f"# Made from {path.name} by `grandrounds import trl`; keys that are not here have their defaults."
    ]
    lines += [
        f"# {note.kind}: {note.field}: {note.text}"
        for note in notes
        if note.kind in ("changed", "unsupported")
    ]
    return "\n".join(lines) + "\n" + dump_values(made.sections())
