"""A GRPOConfig's values as a recipe, with a note on every field that was set. Nothing is dropped in silence."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from typing import Any

from grandrounds.errors import RecipeError
from grandrounds.tracking.known import TRACKERS
from grandrounds.trl.batches import batches_of
from grandrounds.trl.fields import ConfigField
from grandrounds.trl.training_fields import FIELDS
from grandrounds.trl.translation import Translation

OPTIMIZERS = {
    **dict.fromkeys(
        ("adamw_torch", "adamw_torch_fused", "adamw_hf", "paged_adamw", "paged_adamw_32bit"), "adamw"
    ),
    **dict.fromkeys(("adamw_8bit", "adamw_bnb_8bit", "paged_adamw_8bit", "adamw_torch_8bit"), "adamw_8bit"),
}
SCHEDULES = {
    "linear": "linear",
    "cosine": "cosine",
    "cosine_with_min_lr": "cosine",
    "constant": "constant",
    "constant_with_warmup": "constant",
}
SCALES = {True: "group", False: "none", "group": "group", "batch": "batch", "none": "none"}
PRECISIONS = {"auto": "auto", "float32": "float32", "bfloat16": "bfloat16", None: "auto"}


def translate(values: Mapping[str, Any], given: Iterable[str], prompts: int | None = None) -> Translation:
    """The recipe of these fields, and a note on each. It raises nothing: what is refused is noted as unsupported."""
    made = Translation(values, frozenset(given), prompts)
    for one in FIELDS.values():
        _by_class(made, one)
    for part in (_batches, _schedule, _loss, _entropy, _optimizer, _policy, _saving, _named, _trackers):
        part(made)
    return made


def is_default(one: ConfigField, value: Any) -> bool:
    """Whether a value is the default, or as empty as an empty default."""
    empty: tuple[Any, ...] = (None, "", (), [], {})
    return bool(value == one.default) or (one.default in empty and value in empty)


def _by_class(made: Translation, one: ConfigField) -> None:
    value = made.values[one.name]
    if one.kind == "ignored" and not is_default(one, value):
        made.note(one.name, "no effect", one.text)
    elif one.kind == "refused" and not is_default(one, value):
        made.refuse(one.name, one.text, one.hint)
    elif one.kind != "mapped":
        made.note(one.name, "mapped", "as here")
    else:
        made.note(one.name, "mapped", one.text)
        if one.copied:
            made.recipe[one.text] = value


def _batches(made: Translation) -> None:
    """Prompts of a round, steps of a pass, and rounds."""
    values = made.values
    try:
        made.batches = batches_of(values)
    except RecipeError as error:
        name = error.where.removeprefix("GRPOConfig(").partition("=")[0]
        made.refuse(name, error.what, error.hint)
        return
    batches = made.batches
    made.recipe |= {"grpo.cases_per_round": batches.cases, "grpo.minibatches": batches.minibatches}
    if made.prompts is not None and made.prompts < batches.cases:
        made.refuse(
            "per_device_train_batch_size",
            f"there are {made.prompts} prompts, fewer than the {batches.cases} of one round",
            "Lower the batch size, or give more prompts.",
        )
    if batches.cases % batches.minibatches:
        made.note(
            "steps_per_generation",
            "changed",
            f"the {batches.cases} groups of a round do not divide by {batches.minibatches} steps: some learn from more",
        )
    if values["max_steps"] > 0:
        made.steps = values["max_steps"]
        if "num_train_epochs" in made.given:
            made.note("num_train_epochs", "no effect", "max_steps decides")
    elif made.prompts is not None:
        made.steps = math.ceil(values["num_train_epochs"] * batches.steps_per_epoch(made.prompts))
    else:
        made.note(
            "num_train_epochs",
            "changed",
            f"the prompts are not counted: set rounds to prompts / {batches.cases} × {values['num_train_epochs']:g}",
        )
    if made.steps is not None:
        made.recipe["rounds"] = batches.rounds(made.steps)
        if made.steps % batches.steps_per_round:
            name = "max_steps" if values["max_steps"] > 0 else "num_train_epochs"
            made.note(
                name,
                "changed",
                f"{made.steps} steps become {batches.rounds(made.steps)} whole rounds of {batches.steps_per_round}",
            )


def _schedule(made: Translation) -> None:
    """Warm-up and decay, exactly transformers' where a round is one step."""
    values, recipe = made.values, made.recipe
    name, options = values["lr_scheduler_type"], dict(values["lr_scheduler_kwargs"] or {})
    if name not in SCHEDULES:
        made.refuse(
            "lr_scheduler_type", "there is no such schedule here", f"There are {', '.join(SCHEDULES)}."
        )
        return
    end = 0.0
    if name == "cosine_with_min_lr":
        low, peak = options.pop("min_lr", None), values["learning_rate"]
        end = options.pop("min_lr_rate", None) or (low or 0.0) / peak
    elif name == "cosine" and options.get("num_cycles") == 0.5:
        options.pop("num_cycles")
    if options:
        made.refuse("lr_scheduler_kwargs", f"`{min(options)}` cannot be set here", "Leave it out.")
    recipe["grpo.schedule"] = SCHEDULES[name]
    if SCHEDULES[name] != "constant":
        recipe["grpo.learning_rate_end"] = end
    warmup = values["warmup_steps"]
    if name == "constant" or not warmup:
        if name == "constant" and warmup:
            made.note(
                "warmup_steps", "no effect", "lr_scheduler_type=constant has no warm-up, in transformers too"
            )
        return
    if warmup < 1 and made.steps is None:
        made.note(
            "warmup_steps", "changed", f"a share of the steps: set grpo.warmup_rounds to {warmup:g} × rounds"
        )
    elif made.batches is not None:
        steps = int(warmup) if warmup >= 1 else math.ceil(warmup * (made.steps or 0))
        recipe["grpo.warmup_rounds"] = made.batches.rounds(steps)
        if steps % made.batches.steps_per_round:
            made.note(
                "warmup_steps", "changed", f"{steps} steps become {made.batches.rounds(steps)} whole rounds"
            )


def _loss(made: Translation) -> None:
    """Clip, scale, aggregation, KL, and what a loss has of its own."""
    values, recipe, loss = made.values, made.recipe, made.values["loss_type"]
    high = values["epsilon"] if values["epsilon_high"] is None else values["epsilon_high"]
    recipe["grpo.clip_high"] = high
    if loss == "cispo":
        # TRL bounds the ratio by epsilon_high itself, ours by 1 + clip_high.
        recipe["grpo.clip_high"] = high - 1
        if high < 1:
            made.refuse(
                "epsilon_high",
                f"with loss_type=cispo it is the largest ratio, and {high:g} is below 1, where every ratio begins",
                "Set it above 1; 5.0 is usual.",
            )
    options = {name: values[f"{loss}_{short}"] for name, short in LOSS_OPTIONS.get(loss, {}).items()}
    recipe["grpo.loss_options"] = options
    for other, names in LOSS_OPTIONS.items():
        for short in names.values():
            if other != loss:
                made.note(f"{other}_{short}", "no effect", f"it belongs to loss_type={other}")
    if (scale := values["scale_rewards"]) in SCALES:
        recipe["grpo.advantage_scale"] = SCALES[scale]
    else:
        made.refuse("scale_rewards", "there is no such scale", "Choose group, batch or none.")
    recipe["grpo.aggregation"] = values["multi_objective_aggregation"]
    if values["multi_objective_aggregation"] == "normalize_then_sum":
        recipe["grpo.advantage_scale"] = "group"
        made.note("scale_rewards", "no effect", "normalize_then_sum has a scale of its own, in TRL too")
    if values["beta"]:
        recipe["grpo.kl_correction"] = values["use_bias_correction_kl"]
    else:
        made.note("use_bias_correction_kl", "no effect", "beta is 0: there is no KL")


# Our name of an option -> the end of TRL's.
LOSS_OPTIONS = {
    "sapo": {"temperature_positive": "temperature_pos", "temperature_negative": "temperature_neg"},
    "vespo": {
        "k_positive": "k_pos",
        "lambda_positive": "lambda_pos",
        "k_negative": "k_neg",
        "lambda_negative": "lambda_neg",
    },
}


def _entropy(made: Translation) -> None:
    values, recipe = made.values, made.recipe
    recipe["grpo.entropy_bonus"] = values["entropy_coef"]
    if values["use_adaptive_entropy"]:
        recipe |= {
            "grpo.entropy_target": values["entropy_target"],
            "grpo.entropy_bonus_step": values["entropy_coef_delta"],
            "grpo.entropy_bonus_max": values["entropy_coef_max"],
        }
    else:
        for name in ("entropy_target", "entropy_coef_delta", "entropy_coef_max"):
            made.note(name, "no effect", "it belongs to use_adaptive_entropy")


def _optimizer(made: Translation) -> None:
    optim = made.values["optim"]
    if optim in OPTIMIZERS:
        made.recipe["grpo.optimizer"] = OPTIMIZERS[optim]
        if optim.startswith("paged"):
            made.note("optim", "changed", "grpo.optimizer; moments stay on the device, and are not paged")
    else:
        made.refuse("optim", "there is no such optimizer here", f"There are {', '.join(OPTIMIZERS)}.")


def _policy(made: Translation) -> None:
    """Device, template, and how a model is loaded by name."""
    values, recipe = made.values, made.recipe
    recipe["policy.device"] = "cpu" if values["use_cpu"] else "auto"
    recipe["prompt.template_arguments"] = dict(values["chat_template_kwargs"] or {})
    options = dict(values["model_init_kwargs"] or {})
    for name in ("device_map", "attn_implementation", "use_cache", "low_cpu_mem_usage", "use_kernels"):
        options.pop(name, None)  # how a model is loaded, not which
    dtype = str(options.pop("dtype", options.pop("torch_dtype", None)) or "auto").removeprefix("torch.")
    if dtype in PRECISIONS:
        recipe["policy.precision"] = PRECISIONS[dtype]
    else:
        made.refuse("model_init_kwargs", f"policies do not compute in {dtype}", "Choose float32 or bfloat16.")
    if dtype == "auto" and values["bf16"] is False and not values["fp16"]:
        recipe["policy.precision"] = "float32"
    elif values["bf16"]:
        made.note("bf16", "no effect", "policy.precision decides by device, and by measurement on a CPU")
    if options.pop("trust_remote_code", False):
        recipe["policy.trust_remote_code"] = True
    if (quantization := options.pop("quantization_config", None)) is not None:
        quantize(made, quantization, "model_init_kwargs")
    if options:
        made.refuse(
            "model_init_kwargs", f"`{min(options)}` cannot be set here", "Load the model and pass it instead."
        )


def quantize(made: Translation, config: Any, name: str) -> None:
    """Take over a BitsAndBytesConfig in 4 bits; refuse any other in the name of this field."""
    four = (
        config.get("load_in_4bit") if isinstance(config, Mapping) else getattr(config, "load_in_4bit", False)
    )
    if four:
        made.recipe["policy.quantize"] = "4bit"
    else:
        made.refuse(
            name,
            "weights are quantized to 4 bits or not at all",
            "Use BitsAndBytesConfig(load_in_4bit=True).",
        )


def _saving(made: Translation) -> None:
    """When and how many checkpoints are kept. The last round's always is."""
    values, recipe, batches = made.values, made.recipe, made.batches
    rounds = recipe.get("rounds", 100)
    strategy, keep = values["save_strategy"], values["save_total_limit"]
    # The folder checkpoint-N of the last step is made from the run's own checkpoint.
    recipe["checkpoint.keep"] = max(1, keep) if keep else rounds + 1
    if strategy == "best":
        made.refuse("save_strategy", "there is no best checkpoint", "Choose steps or epoch.")
    if batches is None or strategy not in ("steps", "epoch"):
        recipe["checkpoint.every"] = rounds
        return
    steps = values["save_steps"]
    if strategy == "epoch":
        steps = batches.steps_per_epoch(made.prompts) if made.prompts else rounds * batches.steps_per_round
    elif steps < 1:
        steps = max(1, math.ceil(steps * (made.steps or 0)))
    recipe["checkpoint.every"] = batches.rounds(steps)
    if steps % batches.steps_per_round and strategy == "steps":
        made.note("save_steps", "changed", f"{steps} steps become {batches.rounds(steps)} whole rounds")


def reported_to(value: Any) -> list[str]:
    """The trackers that `report_to` names; for "all" those that are installed here."""
    if value == "all":
        return [name for name in TRACKERS if find_spec(name) is not None]
    names = [value] if isinstance(value, str) else list(value or ())
    return [name for name in names if name in TRACKERS]


def _trackers(made: Translation) -> None:
    """A line for trackers that we do not have."""
    value = made.values["report_to"]
    names = [value] if isinstance(value, str) else list(value or ())
    if others := [str(name) for name in names if name not in (*TRACKERS, "none", "all")]:
        known = ", ".join(reported_to(value)) or "nothing"
        made.note("report_to", "changed", f"{known}; there is no tracker {', '.join(others)} here")


def _named(made: Translation) -> None:
    """The run's name."""
    output = str(made.values["output_dir"] or "trainer_output").rstrip("/")
    made.recipe["name"] = str(made.values["run_name"] or output.rpartition("/")[2] or "run")
