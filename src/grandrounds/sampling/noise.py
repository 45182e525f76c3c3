"""Keyed randomness: a completion's noise depends only on its key, not on other completions or their order."""

from __future__ import annotations

import hashlib

import numpy as np

from grandrounds.sampling.sampler import Key


def uniforms(key: Key, case_id: str, place: int, count: int) -> np.ndarray:
    """`count` numbers in [0, 1), float32, one for each position of the completion at `place` of its group."""
    return generator(key, case_id, place).random(count, dtype=np.float32)


def generator(key: Key, case_id: str, place: int) -> np.random.Generator:
    """Gives the same numbers one by one, for a completion whose length is not known beforehand."""
    text = "\x1f".join(str(part) for part in (*key, case_id, place))
    digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))
