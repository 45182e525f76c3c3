"""The text and log-probability of each token of a completion."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any


def token_texts(
    tokenizer: Path | None, ids: Sequence[int] | None, logprobs: Sequence[float] | None
) -> tuple[tuple[str, float], ...] | None:
    """(text, log-probability) of each token; tokens that only together make a character are one, with their sum.

    tokenizer: a tokenizer.json. None where the run keeps no tokens, or no tokenizer to read them with.
    """
    if tokenizer is None or ids is None or logprobs is None:
        return None
    from tokenizers.decoders import DecodeStream

    found = _tokenizer(tokenizer, tokenizer.stat().st_mtime_ns)
    stream = DecodeStream(skip_special_tokens=False)
    pieces: list[tuple[str, float]] = []
    waiting = 0.0
    for token, logprob in zip(ids, logprobs, strict=True):
        waiting += logprob
        text = stream.step(found, token)
        if text is not None:
            pieces.append((text, waiting))
            waiting = 0.0
    return tuple(pieces)


@lru_cache(maxsize=4)
def _tokenizer(path: Path, changed: int) -> Any:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(path))
