"""Saves a policy in the Hub's layout: safetensors, config, tokenizer, chat template."""

from __future__ import annotations

from pathlib import Path

from grandrounds.policy.model import Policy


def save_policy(policy: Policy, folder: Path) -> None:
    """Write the adapter or the whole model into `folder`, with the tokenizer."""
    if policy.adapter:
        # Otherwise PEFT asks the Hub about the base model, to see whether embeddings changed. Ours never change.
        policy.model.save_pretrained(folder, save_embedding_layers=False)
    else:
        policy.model.save_pretrained(folder)
    policy.tokenizer.save_pretrained(folder)
