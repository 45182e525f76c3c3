"""Saving a policy in the Hub's layout: safetensors, config, tokenizer, chat template."""

from __future__ import annotations

from pathlib import Path

from grandrounds.policy.model import Policy


def save_policy(policy: Policy, folder: Path) -> None:
    """Write the adapter, or the whole model, with its tokenizer into `folder`."""
    policy.model.save_pretrained(folder, safe_serialization=True)
    policy.tokenizer.save_pretrained(folder)
