"""Reads weights into newly allocated, aligned memory instead of mapping their files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

ALIGNMENT = 64  # bytes, as torch aligns the memory it allocates


@contextmanager
def read_not_mapped() -> Iterator[None]:
    """Within the block transformers reads safetensors files tensor by tensor, instead of mapping them into memory.

    A mapped tensor may begin at any byte, and matrix products round differently by alignment: the last digits of a
    resumed run would differ from those of the uninterrupted run. So mapped tensors would have to be copied, and the
    file's pages that were read would stay in the process's memory beside the copies: half a billion weights in float32
    took 4.2 GB instead of 2.4 (docs/PERFORMANCE.md). transformers has no setting for it.
    """
    from transformers import modeling_utils

    library: Any = modeling_utils
    mapped = library.safe_open
    library.safe_open = lambda file, **how: _File(mapped(file, **{**how, "backend": "pread"}))
    try:
        yield
    finally:
        library.safe_open = mapped


class _Wrapped:
    """Behaves like the wrapped object, except in what a subclass overrides."""

    def __init__(self, wrapped: Any) -> None:
        self._wrapped = wrapped

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wrapped, name)


class _File(_Wrapped):
    def get_slice(self, name: str) -> _Slice:
        return _Slice(self._wrapped.get_slice(name))

    def __exit__(self, *error: Any) -> None:
        self._wrapped.__exit__(*error)


class _Slice(_Wrapped):
    def __getitem__(self, index: Any) -> Tensor:
        tensor = self._wrapped[index]
        return tensor.clone() if tensor.data_ptr() % ALIGNMENT else tensor
