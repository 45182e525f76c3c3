"""Loads a policy into an engine of vLLM's. vLLM is imported here alone, and only where it is asked for."""

from __future__ import annotations

import importlib
import importlib.util
import os
import warnings
from typing import Any

import torch

from grandrounds.errors import PolicyError, RunError
from grandrounds.policy.precision import choose_precision
from grandrounds.policy.unloaded import Unloaded, unloaded
from grandrounds.recipe import PolicyRecipe
from grandrounds.sampling.engine import Engine
from grandrounds.sampling.kv_cache import KV_CACHE_BYTES
from grandrounds.sampling.vllm_batch import VllmBatch

# No statistics are sent. The engine runs in this process, so that Ctrl-C ends what is being answered in our order, and
# each step ends before the next one is planned.
ENVIRONMENT = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
MODULES = ("vllm.platforms", "vllm.sampling_params")  # of it, those that it does not import by itself
# Its log is quiet, unless its own variable says otherwise.
LOG_LEVEL, QUIET = "VLLM_LOGGING_LEVEL", "ERROR"
# The part of a GPU's memory that all engines take together: weights, activations and KV caches.
GPU_MEMORY = 0.9
# On a CPU nothing is compiled, which would need a C++ compiler; the KV cache is as large as ours; and no prompt is
# computed in parts, which vLLM 0.32 cannot do there beside requests with a seed.
ON_CPU = {"enforce_eager": True, "kv_cache_memory_bytes": KV_CACHE_BYTES, "enable_chunked_prefill": False}
# Of vLLM's own: the longest context that its memory has room for.
LONGEST = -1
WHERE = "--engine vllm"
OTHERWISE = "leave --engine out: the native engine serves it"


def vllm_library() -> Any:
    """The module vllm, set up for this process. RunError where it is not installed or cannot be imported."""
    if importlib.util.find_spec("vllm") is None:
        raise RunError(
            "vLLM is not installed",
            where=WHERE,
            hint=f"pip install vllm, on a machine with a GPU that it supports. Or {OTHERWISE}.",
        )
    os.environ.update(ENVIRONMENT)
    os.environ.setdefault(LOG_LEVEL, QUIET)
    try:
        for name in MODULES:
            importlib.import_module(name)
        return importlib.import_module("vllm")
    except (ImportError, OSError, RuntimeError) as error:
        raise RunError(
            f"vLLM is installed but cannot be imported: {_first_line(error)}",
            where=WHERE,
            hint=f"Install a build of it that fits this machine and this torch ({torch.__version__}). Or {OTHERWISE}.",
        ) from error


def vllm_engine(library: Any, recipe: PolicyRecipe, rows: int, share: float) -> Engine:
    """The policy, loaded by vLLM. rows: completions that are decoded at once. share: of the GPU's memory that is used.

    PolicyError for a model that vLLM cannot load.
    """
    policy = unloaded(recipe)
    device: str = library.platforms.current_platform.device_type
    dtype, _ = choose_precision(recipe, torch.device(device))
    precision = str(dtype).removeprefix("torch.")
    arguments = library.EngineArgs(
        model=policy.model,
        tokenizer=policy.model,
        skip_tokenizer_init=True,
        trust_remote_code=False,
        load_format="safetensors",
        use_tqdm_on_load=False,
        dtype=precision,
        max_model_len=_longest(policy),
        max_num_seqs=rows,
        gpu_memory_utilization=GPU_MEMORY * share,
        disable_log_stats=True,
        **(ON_CPU if device == "cpu" else {}),
    )
    try:
        with warnings.catch_warnings(action="ignore"):  # of what its own parts will change
            engine = _opened(library, arguments, min(policy.eos_ids))
    except Exception as error:  # vLLM raises whatever its configuration, its kernels and its memory lead to
        raise PolicyError(
            f"vLLM cannot load the model: {_first_line(error)}",
            where=recipe.model,
            hint=f"{LOG_LEVEL}=INFO shows what it does. Or {OTHERWISE}.",
        ) from error
    # vLLM wants room for one token more than is given to it.
    longest = min(policy.max_positions, engine.model_config.max_model_len - 1)
    return Engine(
        policy.tokenizer,
        longest,
        f"{precision} on {device} by vLLM {library.__version__}",
        VllmBatch(library, engine, policy.tokenizer, policy.eos_ids),
    )


def _opened(library: Any, arguments: Any, token: int) -> Any:
    """The engine, after it has gone on from this token: what its kernels cannot compute must not end a user's
    request."""
    engine = library.LLMEngine.from_engine_args(arguments)
    trial = library.SamplingParams(max_tokens=1, detokenize=False)
    engine.add_request("trial", {"prompt_token_ids": [token]}, trial)
    while engine.has_unfinished_requests():
        engine.step()
    return engine


def _longest(policy: Unloaded) -> int:
    """The context that vLLM is asked for: where ours is shorter than the model's, it decides about the rotations."""
    own = getattr(policy.config.get_text_config(), "max_position_embeddings", None)
    return policy.max_positions if own and policy.max_positions < own else LONGEST


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
