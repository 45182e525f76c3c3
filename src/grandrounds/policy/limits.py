"""The tokens that end a response, and the length of a model's context."""

from __future__ import annotations

from typing import Any

from grandrounds.errors import PolicyError

# End-of-turn tokens that chat templates use although the tokenizer's eos token is another one.
TURN_ENDS = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>", "<|endoftext|>", "</s>")


def response_ends(config: Any, generation: Any, tokenizer: Any) -> tuple[frozenset[int], int]:
    """All tokens that end a response, and the one that ends an assistant turn in the chat template.

    config, generation: a model's configuration and its generation configuration, if it has one.
    """
    configured = getattr(generation, "eos_token_id", None) or config.get_text_config().eos_token_id
    ids = set(configured if isinstance(configured, list) else [configured])
    ids.add(tokenizer.eos_token_id)
    template = tokenizer.chat_template
    template = template if isinstance(template, str) else str(template)
    named = [token for token in TURN_ENDS if token in template]
    turn_ends = [tokenizer.convert_tokens_to_ids(token) for token in named]
    turn_ends = [token for token in turn_ends if token is not None and token != tokenizer.unk_token_id]
    ids.update(turn_ends)
    ids.discard(None)
    if not ids:
        raise PolicyError(
            "the model names no end token",
            where=str(tokenizer.name_or_path),
            hint="Set `eos_token_id` in its generation_config.json.",
        )
    end = turn_ends[0] if turn_ends else tokenizer.eos_token_id
    return frozenset(ids), int(end if end is not None else min(ids))


def context_length(config: Any) -> int:
    """The longest sequence, in tokens, that the model computes independently of the rest of its batch.

    LongRoPE (Phi-3's 128k models) changes every token's rotation once any token of the batch is past the original
    context, including keys that are already in the KV cache. Results would then depend on the batch, so the original
    context is the limit.
    """
    context = int(getattr(config, "max_position_embeddings", 0) or 2**20)
    rope = getattr(config, "rope_parameters", None) or {}
    for kind in [rope, *(part for part in rope.values() if isinstance(part, dict))]:
        if kind.get("rope_type") == "longrope":
            context = min(context, int(kind.get("original_max_position_embeddings") or context))
    return context
