"""Saving a policy in the Hub's layout: safetensors, config, tokenizer, chat template."""

from __future__ import annotations

from pathlib import Path

from grandrounds.policy.model import Policy


def save_policy(policy: Policy, folder: Path) -> None:
    """Write the adapter, or the whole model, with its tokenizer into `folder`."""
    if policy.adapter:
        # PEFT would ask the Hub about the base model otherwise; we never change embeddings.
        policy.model.save_pretrained(folder, save_embedding_layers=False)
    else:
        policy.model.save_pretrained(folder)
    policy.tokenizer.save_pretrained(folder)
