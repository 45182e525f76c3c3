"""Loads a policy from a folder, from the Hub or from scratch, with LoRA or all weights, in the device's precision."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from grandrounds.errors import PolicyError, RecipeError
from grandrounds.hub import known_shape, settle
from grandrounds.kernels import attention
from grandrounds.policy.chat import give_template, plain_note
from grandrounds.policy.gguf import is_gguf, unpacked
from grandrounds.policy.limits import context_length, response_ends
from grandrounds.policy.merged import ADAPTER_CONFIG, merged
from grandrounds.policy.model import Policy, Recompute
from grandrounds.policy.precision import Mix, choose_precision
from grandrounds.policy.quantize import keep_layout, packing, refuse_packed
from grandrounds.policy.reading import read_not_mapped
from grandrounds.policy.verify import HINT, verify
from grandrounds.recipe import PolicyRecipe

SCRATCH = "scratch"
# Devices that have no memory besides the computer's.
SHARED_MEMORY = ("cpu", "mps")


def load_policy(
    recipe: PolicyRecipe,
    *,
    seed: int,
    corpus: Callable[[], Iterable[str]] | None = None,
    tags: Sequence[str] = (),
    mix: Mix | None = None,
    given: tuple[Any, Any] | None = None,
) -> Policy:
    """The policy that a recipe names, ready to be sampled from and trained.

    corpus: texts for a scratch model's tokenizer. tags: strings that this tokenizer has as single tokens. mix: the work
    of a round, by which the precision is chosen. given: a model and tokenizer in memory; of the recipe's model only a
    saved adapter is then read.
    A folder may hold a whole model or a LoRA adapter, as `save_policy` writes them; a GGUF file is unpacked.
    Raises PolicyError for a model that is missing, that cannot be read, or that our attention does not compute exactly,
    and RecipeError for settings that do not go together.
    """
    attention.register()
    device = device_of(recipe)
    if given is not None:
        _require_usable(*given)
        dtype, reason = given[0].dtype, "as given"
    else:
        dtype, reason = choose_precision(
            recipe, device, lambda: configuration(recipe, recipe.scratch.vocabulary), mix
        )
    with torch.random.fork_rng(
        devices=[]
    ):  # the seed determines initial weights; torch's global random state is not touched
        torch.manual_seed(seed)
        if given is not None:
            model, tokenizer = given
            for (
                parameter
            ) in model.parameters():  # out of a mapped file, whose unaligned tensors round differently
                parameter.data = parameter.data.clone()
        elif recipe.model == SCRATCH:
            model, tokenizer = _scratch(recipe, dtype, corpus, tags)
        else:
            model, tokenizer = _pretrained(recipe, dtype, device)
        # Moved without a cast: what a model keeps in float32, above all its rotary frequencies, must stay float32.
        model = model.to(device)
        model, base = with_adapter(model, recipe)
    model.eval()
    eos_ids, end_id = response_ends(base.config, base.generation_config, tokenizer)
    with loading(recipe.model if given is None else "model"):
        policy = Policy(
            model=model,
            base=base,
            tokenizer=tokenizer,
            device=device,
            eos_ids=eos_ids,
            end_id=end_id,
            max_positions=context_length(base.config.get_text_config()),
            adapter=model is not base,
            description=_describe(recipe, model, device, dtype, reason) + plain_note(tokenizer),
            recompute=recomputed(recipe),
            kernels=recipe.kernels,
        )
    verify(policy, recipe.model)
    return policy


def recomputed(recipe: PolicyRecipe) -> Recompute:
    """What the backward pass recomputes. `auto` saves memory where models are large, and time where they are small."""
    if recipe.recompute != "auto":
        return recipe.recompute
    large = recipe.adapter == "lora" and recipe.model != SCRATCH
    return "feed_forward" if large and recipe.kernels.fused else "nothing"


def device_of(recipe: PolicyRecipe) -> torch.device:
    """The device that a policy is trained on. RecipeError for `offload` on a device without memory of its own."""
    device = choose_device(recipe.device)
    if recipe.recompute == "offload" and device.type in SHARED_MEMORY:
        raise RecipeError(
            f"`offload` moves activations to the computer's memory, but the device ({device.type}) already uses it",
            where="policy.recompute",
            hint="Set it to `layers`, which needs no more memory here; or set policy.device to a GPU.",
        )
    return device


def choose_device(name: str) -> torch.device:
    """The device that a recipe names. `auto` takes a GPU if there is one."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise RecipeError(
            f"device `{name}` cannot be used here: {str(error).splitlines()[0]}",
            where="policy.device",
            hint="Use `auto`, or one that `grandrounds doctor` lists.",
        ) from error
    return device


def configuration(recipe: PolicyRecipe, vocabulary: int) -> Any:
    """The model's configuration, from its folder, the Hub or the recipe. `vocabulary`: the size for a scratch model.
    Where the Hub cannot be reached, a shipped recipe's model is known by a few numbers.

    Raises PolicyError for a model that is missing or cannot be read.
    """
    if recipe.model == SCRATCH:
        from grandrounds.policy.scratch import check_heads, model_config

        check_heads(recipe.scratch)
        return model_config(recipe.scratch, vocabulary, None, None)
    from transformers import AutoConfig

    source = sources(recipe)[1]
    try:
        with loading(source):
            return AutoConfig.from_pretrained(source, trust_remote_code=recipe.trust_remote_code)
    except PolicyError:
        if (known := known_shape(source)) is None:
            raise
        return known


def _scratch(
    recipe: PolicyRecipe,
    dtype: torch.dtype,
    corpus: Callable[[], Iterable[str]] | None,
    tags: Sequence[str],
) -> tuple[Any, Any]:
    from grandrounds.policy.scratch import build_model, build_tokenizer, check_heads

    if corpus is None:
        raise PolicyError(
            "a scratch model is built from training cases, and there are none here",
            where="policy.model",
            hint="Train it first; then name the run's folder.",
        )
    if recipe.quantize == "4bit":
        raise RecipeError(
            "a scratch model trains all weights, and 4-bit weights cannot be trained",
            where="policy.quantize",
            hint="Set it to none, or name a trained model in policy.model.",
        )
    check_heads(recipe.scratch)
    tokenizer = build_tokenizer(corpus(), recipe.scratch.vocabulary, tags)
    model = build_model(recipe.scratch, len(tokenizer), tokenizer.eos_token_id, tokenizer.pad_token_id)
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    return model, tokenizer


def _require_usable(model: Any, tokenizer: Any) -> None:
    """PolicyError where a model in memory is no plain causal LM. A missing chat template is made up for."""
    from transformers import PreTrainedModel

    if not isinstance(model, PreTrainedModel) or model.get_output_embeddings() is None:
        raise PolicyError(
            f"{type(model).__name__} is no causal language model of transformers",
            where="model",
            hint="Pass (model, tokenizer), the model without an adapter: policy.adapter makes one.",
        )
    give_template(tokenizer)


def _pretrained(recipe: PolicyRecipe, dtype: torch.dtype, device: torch.device) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM

    packed = packing(dtype, device) if recipe.quantize == "4bit" else {}
    tokenizer, (_, source) = load_tokenizer(recipe), sources(recipe)
    with loading(source), read_not_mapped():
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            source,
            dtype=dtype,
            attn_implementation=attention.ATTENTION if recipe.kernels.shared_prefix else None,
            use_safetensors=True,
            output_loading_info=True,
            trust_remote_code=recipe.trust_remote_code,
            **packed,
        )
    model, report = loaded
    if packed:
        keep_layout(model)
    else:
        refuse_packed(model, source)
    if report["missing_keys"]:  # transformers initialises them at random
        raise PolicyError(
            f"weights are missing: {min(report['missing_keys'])}",
            where=source,
            hint="Give a complete causal language model; the files may be damaged, or of a model without its head.",
        )
    return model, tokenizer


def load_tokenizer(recipe: PolicyRecipe) -> Any:
    """The tokenizer of a model not built from scratch, with a chat template. PolicyError where it is missing."""
    from transformers import AutoTokenizer

    name, source = sources(recipe)
    with loading(source):
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=recipe.trust_remote_code)
    give_template(tokenizer)
    return tokenizer


def sources(recipe: PolicyRecipe) -> tuple[str, str]:
    """(source of the tokenizer, source of the model), folders or Hub names. They differ where the recipe names an
    adapter."""
    folder = _folder(recipe)
    if looks_like_path(recipe.model) and not _holds_model(folder):
        raise _no_model(recipe.model, folder)
    name = str(folder) if folder.exists() else recipe.model
    if not folder.exists():
        settle()
    if not _is_adapter(folder):
        return name, name
    base = _base_of(folder)
    return name if has_tokenizer(folder) else base, base


def _no_model(name: str, folder: Path) -> PolicyError:
    """What is wrong with a folder that should hold a model."""
    what = (
        "the folder holds no model (no config.json)" if folder.exists() else "there is no such model folder"
    )
    hint = "Name a folder written by save_pretrained, a GGUF file or a Hub name."
    saved = sorted(one for one in folder.glob("checkpoints/*") if _holds_model(one))
    if saved:
        hint = f"It is a run's folder. Name one of its checkpoints: {saved[-1]}"
    return PolicyError(what, where=name, hint=hint)


@contextmanager
def loading(source: str) -> Iterator[None]:
    """Turns whatever transformers or PEFT raise for bad files into a PolicyError."""
    from safetensors import SafetensorError

    try:
        yield
    except (
        OSError,
        ValueError,
        LookupError,
        ImportError,
        RuntimeError,
        UserWarning,
        SafetensorError,
    ) as error:
        # The model looks attention functions up in its own table, which has no entry for ours.
        own = isinstance(error, KeyError) and error.args == (attention.ATTENTION,)
        raise PolicyError(
            "this architecture does not allow another attention function"
            if own
            else f"the model cannot be loaded: {_first_line(error)}",
            where=source,
            hint=HINT if own else "Check the name and files; a Hub name needs network or a local cache.",
        ) from error


def looks_like_path(name: str) -> bool:
    """Whether a model's name can only be a folder: it exists, is no Hub name, or its parent folder exists."""
    return (
        Path(name).exists()
        or name.startswith((".", "/", "~"))
        or not re.fullmatch(r"[\w.-]+/[\w.-]+|[\w.-]+", name)
        or ("/" in name and Path(name).parent.is_dir())
    )


def _folder(recipe: PolicyRecipe) -> Path:
    """The model's folder, or the one that its GGUF file or its merged adapter became; absolute, so that a saved adapter
    finds its base."""
    path = Path(recipe.model).expanduser().absolute()
    if is_gguf(recipe.model):
        return unpacked(path)
    if not recipe.merge or recipe.model == SCRATCH:
        return path
    if not _is_adapter(path):
        raise PolicyError(
            "there is no adapter to merge (no adapter_config.json)",
            where=f"policy.merge, {recipe.model}",
            hint="Leave policy.merge out, or name an adapter's folder.",
        )
    with loading(recipe.model):
        base = _base_of(path)
        return merged(path, base, str(path) if has_tokenizer(path) else base)


def without_adapter(recipe: PolicyRecipe) -> PolicyRecipe:
    """The same policy as a whole model: where it is a saved adapter, merged into its base."""
    adapted = recipe.model != SCRATCH and _is_adapter(_folder(recipe))
    return recipe.model_copy(update={"merge": True}) if adapted else recipe


def has_tokenizer(folder: Path) -> bool:
    """Whether the tokenizer was saved too. PEFT saves an adapter without one."""
    return any((folder / name).exists() for name in ("tokenizer.json", "tokenizer_config.json"))


def _holds_model(folder: Path) -> bool:
    """Whether there is a model or an adapter in it."""
    return (folder / "config.json").exists() or _is_adapter(folder)


def _is_adapter(folder: Path) -> bool:
    return (folder / ADAPTER_CONFIG).exists()


def _base_of(folder: Path) -> str:
    """The model that an adapter was trained on."""
    with loading(str(folder)):
        base = str(json.loads((folder / ADAPTER_CONFIG).read_text())["base_model_name_or_path"])
    if looks_like_path(base) and not Path(base).exists():
        raise PolicyError(
            f"the model that this adapter belongs to is not there: {base}",
            where=str(folder),
            hint="Put it back, or set `base_model_name_or_path` in adapter_config.json.",
        )
    return base


def with_adapter(model: Any, recipe: PolicyRecipe) -> tuple[Any, Any]:
    """(model, the causal LM in it): with a new LoRA adapter, with a saved one, or with all weights trained."""
    if recipe.model != SCRATCH and _is_adapter(_folder(recipe)):
        from peft import PeftModel

        with loading(recipe.model), warnings.catch_warnings():
            # PEFT leaves adapter weights that it does not find at their random initial values, and only warns.
            warnings.filterwarnings("error", message="Found missing adapter keys")
            adapted = PeftModel.from_pretrained(model, str(_folder(recipe)), is_trainable=True)
        if _head_is_adapted(adapted.get_base_model()):
            raise PolicyError(
                "an adapter on the output layer is not supported",
                where=recipe.model,
                hint="Leave that layer out, or merge the adapter into its model.",
            )
        return adapted, adapted.get_base_model()
    if recipe.model == SCRATCH or recipe.adapter == "full":
        return model.requires_grad_(recipe.quantize == "none"), model
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=recipe.lora_rank,
        lora_alpha=recipe.lora_alpha,
        target_modules=recipe.lora_targets,
        lora_dropout=0.0,
        task_type="CAUSAL_LM",
    )
    try:
        adapted = get_peft_model(model, config)
    except ValueError as error:
        raise RecipeError(
            _first_line(error),
            where="policy.lora_targets",
            hint="Name modules of this model, or `all-linear`.",
        ) from error
    if _head_is_adapted(adapted.get_base_model()):
        raise RecipeError(
            "LoRA on the output layer is not supported",
            where="policy.lora_targets",
            hint="Remove it, or use `all-linear`, which leaves it out.",
        )
    return adapted, adapted.get_base_model()


def _head_is_adapted(base: Any) -> bool:
    """Whether an adapter wraps the output layer. We read only that layer's weights, and would miss the adapter."""
    return not isinstance(base.get_output_embeddings(), torch.nn.Linear)


def _describe(recipe: PolicyRecipe, model: Any, device: torch.device, dtype: torch.dtype, reason: str) -> str:
    # A byte of packed weights holds two of them.
    total = sum(p.numel() if p.is_floating_point() else 2 * p.numel() for p in model.parameters())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    what = "all weights" if trained == total else f"LoRA, {trained / 1e6:.2f}M weights"
    if recipe.model != SCRATCH and _is_adapter(_folder(recipe)):
        what += f" of the adapter there, on {_base_of(_folder(recipe))}"
    packed = "4 bits and " if recipe.quantize == "4bit" else ""
    precision = str(dtype).removeprefix("torch.")
    return (
        f"Policy {recipe.model}: {total / 1e6:.2f}M parameters, training {what}, "
        f"{packed}{precision} on {device.type} ({reason})."
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
