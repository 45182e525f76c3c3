"""Loads users' own Python objects by name, "package.module:NAME" or "file.py:NAME". Errors name the file and line."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from grandrounds.errors import GrandRoundsError


def load_object(use: str, base: Path, error: type[GrandRoundsError]) -> tuple[Any, str]:
    """(the object that `use` names, the file that defines it). Files and modules may be relative to `base`.

    Raises `error` where there is no such file, module or name, or where importing it raises.
    """
    place, _, name = use.rpartition(":")
    module = _from_file(base / place, error) if place.endswith(".py") else _from_package(place, base, error)
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            raise error(
                f"there is no `{part}` in it",
                where=use,
                hint=did_you_mean(part, [n for n in dir(found) if not n.startswith("_")]),
            )
        found = getattr(found, part)
    return found, str(getattr(module, "__file__", None) or use)


def _from_file(path: Path, error: type[GrandRoundsError]) -> ModuleType:
    if not path.is_file():
        raise error("there is no such file", where=str(path), hint="Check the path.")
    name = f"grandrounds_own_{path.stem}_{abs(hash(path.resolve()))}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and pickling look their module up by its name.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as failure:
        del sys.modules[name]
        raise error(
            f"the file raises when imported: {describe(failure)}",
            where=place_of(failure, str(path)),
            hint="Correct the file.",
        ) from failure
    return module


def _from_package(name: str, base: Path, error: type[GrandRoundsError]) -> ModuleType:
    """Import a module, also from the folder that the recipe is relative to."""
    if str(base) not in sys.path:
        sys.path.append(str(base))
    try:
        return importlib.import_module(name)
    except Exception as failure:
        raise error(
            f"the module cannot be imported: {describe(failure)}",
            where=place_of(failure, name),
            hint="Install it, or name a file: path/to/file.py:NAME.",
        ) from failure


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A sentence with the most similar known name, or ""."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"Did you mean `{close[0]}`?" if close else ""


def describe(error: BaseException) -> str:
    """An exception in one line."""
    text = str(error).strip().split("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def place_of(error: BaseException, source: str) -> str:
    """file:line of the deepest frame in the user's own file, or else of the deepest frame of all."""
    place, own, trace = source, "", error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        own = f"{file}:{trace.tb_lineno}" if file == source else own
        trace = trace.tb_next
    if isinstance(error, SyntaxError) and error.filename == source:
        return f"{source}:{error.lineno}"
    return own or place
