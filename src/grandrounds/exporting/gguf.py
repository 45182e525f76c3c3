"""GGUF by llama.cpp's own converter, where the user has it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

from grandrounds.errors import RunError

SCRIPT, FOLDER = "convert_hf_to_gguf.py", "LLAMA_CPP"
# What the script imports and we do not need otherwise. It tries sentencepiece on every tokenizer, whatever its kind.
PACKAGES = ("gguf", "sentencepiece")
INSTALL = "pip install 'grandrounds[gguf]'"
TYPES = {"float32": "f32", "bfloat16": "bf16", "float64": "f32"}


def find_converter(given: Path | None = None) -> Path:
    """The converter: the path given, in the folder that LLAMA_CPP names, or on PATH. RunError where there is none."""
    for name in PACKAGES:
        if importlib.util.find_spec(name) is None:
            raise RunError(
                f"GGUF needs the package {name}, which is not installed", where="--to gguf", hint=INSTALL
            )
    if given is not None:
        found = given / SCRIPT if given.is_dir() else given
        if found.is_file():
            return found
        raise RunError("there is no such converter", where=str(given), hint=f"Name llama.cpp's {SCRIPT}.")
    folder = os.environ.get(FOLDER)
    if folder and (Path(folder).expanduser() / SCRIPT).is_file():
        return Path(folder).expanduser() / SCRIPT
    if on_path := shutil.which(SCRIPT):
        return Path(on_path)
    raise RunError(
        f"GGUF needs llama.cpp's converter, {SCRIPT}, which is not here",
        where="--to gguf",
        hint=f"Get llama.cpp's source and name the script with --converter, or its folder in {FOLDER}. "
        f"It needs packages: {INSTALL}.",
    )


def convert(converter: Path, model: Path, file: Path, precision: str, name: str) -> None:
    """Write the merged model in the folder `model` as a GGUF file of the same precision, in which it is called `name`.

    RunError where that fails.
    """
    command = [
        sys.executable,
        converter,
        model,
        "--outfile",
        file,
        "--outtype",
        TYPES[precision],
        "--model-name",
        name,
    ]
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode or not file.is_file():
        lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        last = lines[-1] if lines else f"exit code {done.returncode}"
        missing = last.startswith("ModuleNotFoundError")
        raise RunError(
            f"llama.cpp's converter failed: {last}",
            where=str(converter),
            hint=f"Install it; what llama.cpp's converter usually needs comes with {INSTALL}."
            if missing
            else "llama.cpp may not know this architecture or its tokenizer; try a newer version of it.",
        )
