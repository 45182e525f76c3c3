"""What decodes what is served, by the names of `--engine`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from grandrounds.sampling.engine import Engine
from grandrounds.sampling.live import native_engine
from grandrounds.sampling.vllm_engine import vllm_engine, vllm_library
from grandrounds.serve.options import EngineName, ServeOptions
from grandrounds.training.target import Target


def _native(targets: Sequence[Target], options: ServeOptions) -> list[Engine]:
    return [native_engine(target.load()) for target in targets]


def _vllm(targets: Sequence[Target], options: ServeOptions) -> list[Engine]:
    library = vllm_library()
    return [vllm_engine(library, target.policy, options.max_rows, 1 / len(targets)) for target in targets]


# From the policies and the operator's choices to an engine for each of them.
ENGINES: dict[EngineName, Callable[[Sequence[Target], ServeOptions], list[Engine]]] = {
    "native": _native,
    "vllm": _vllm,
}
