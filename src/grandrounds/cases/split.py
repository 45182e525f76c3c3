"""Keyed splits: a case's split depends only on the seed and its group, never on the order of rows."""

from __future__ import annotations

import hashlib


def keyed_unit(seed: int, *key: str) -> float:
    """A number in [0, 1) determined by the seed and the key."""
    text = "|".join((str(seed), *key))
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") / 2**64


def is_test(seed: int, group: str, fraction: float) -> bool:
    """Whether a group is held out for testing."""
    return keyed_unit(seed, group) < fraction


def is_validation(seed: int, group: str, fraction: float) -> bool:
    """Whether a group that is not held out for testing is set aside for validation.

    By a number of its own: by that of `is_test` a larger test split would take the validation cases first.
    """
    return keyed_unit(seed, "validation", group) < fraction
