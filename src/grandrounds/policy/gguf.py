"""GGUF files, llama.cpp's format, as models to be trained.

A file is unpacked once, into a folder of the user's cache that is named by the file's content: whole weights in
bfloat16, tokenizer and chat template, as `save_pretrained` writes them. All else then reads the folder. Weights that
the file holds in 4 or 8 bits stay as inexact as they are there.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from grandrounds.errors import PolicyError
from grandrounds.policy.cache import digest, made_once

SUFFIX = ".gguf"
# What every tokenizer must give back unchanged.
TEXTS = ("Fever since 3 days; 38.5 °C.", "<reasoning>\nA, b: c.\n</reasoning>\n<answer>B</answer>")


def is_gguf(name: str) -> bool:
    """Whether a model's name is that of a GGUF file."""
    return name.lower().endswith(SUFFIX)


def unpacked(file: Path) -> Path:
    """The folder with the file's model, made where it is not there yet.

    Raises PolicyError for a file that is missing, cannot be read, or whose tokenizer does not give texts back.
    """
    if not file.is_file():
        raise PolicyError("there is no such file", where=str(file), hint="Check the path.")
    if importlib.util.find_spec("gguf") is None:
        raise PolicyError(
            "GGUF files need the package gguf, which is not installed",
            where=str(file),
            hint="pip install 'grandrounds[gguf]'",
        )
    return made_once(file.stem, digest(file), f"Unpacking {file.name}", lambda folder: _unpack(file, folder))


def _unpack(file: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        with _without_a_bar():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                file.parent,
                gguf_file=file.name,
                dtype=torch.bfloat16,
                output_loading_info=True,
                **_whole_weights(),
            )
    except Exception as error:  # transformers, gguf, numpy and struct raise whatever a damaged file leads to
        text = str(error).strip().splitlines()
        raise PolicyError(
            f"the GGUF file cannot be read: {text[0] if text else type(error).__name__}",
            where=str(file),
            hint="Check that it is complete and holds a causal language model that transformers knows.",
        ) from error
    model, report = loaded
    if report["missing_keys"]:  # transformers initialises them at random
        raise PolicyError(
            f"weights are missing: {min(report['missing_keys'])}",
            where=str(file),
            hint="The file may be damaged, or of an architecture that is not read from GGUF.",
        )
    _require_round_trip(tokenizer, file)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.is_quantized = False
    folder.mkdir(parents=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@contextmanager
def _without_a_bar() -> Iterator[None]:
    """Within the block transformers reads the file without a bar, which it draws whatever it is told of bars."""
    from transformers import modeling_gguf_pytorch_utils as reader

    bar = reader.tqdm
    reader.tqdm = partial(bar, disable=True)
    try:
        yield
    finally:
        reader.tqdm = bar


def _whole_weights() -> dict[str, Any]:
    """Arguments by which newer versions of transformers unpack the weights; older ones always do."""
    import transformers

    config = getattr(transformers, "GgufConfig", None)
    return {} if config is None else {"quantization_config": config(dequantize=True)}


def _require_round_trip(tokenizer: Any, file: Path) -> None:
    """PolicyError where a text does not come back, special tokens are not single ones, or nothing ends a response."""
    problem = ""
    for text in TEXTS:
        back = tokenizer.decode(tokenizer.encode(text, add_special_tokens=False))
        if back.strip() != text:
            problem = f"of the text {text!r} the tokenizer gives back {back!r}"
    for token in tokenizer.all_special_tokens:
        if len(tokenizer.encode(token, add_special_tokens=False)) != 1:
            problem = f"the special token {token!r} is not one token"
    if tokenizer.eos_token_id is None:
        problem = "no token ends a response"
    if problem:
        raise PolicyError(
            f"the tokenizer in the file does not work: {problem}",
            where=str(file),
            hint="Use the model's own folder, as save_pretrained writes it.",
        )
