"""Renders chat messages through the model's own template and encodes them as prompt tokens."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from grandrounds.errors import PolicyError
from grandrounds.types import Message

# A tag that the template opens and does not close: "<think>\n" at the very end of the prompt.
_OPENED = re.compile(r"<([A-Za-z][A-Za-z0-9_-]*)>\s*$")


# For models without a template, such as base models: who speaks, in words.
PLAIN_TEMPLATE = (
    "{% if bos_token is defined and bos_token %}{{ bos_token }}{% endif %}"
    "{% for message in messages %}{% if message['role'] == 'system' %}{{ message['content'] + '\n\n' }}"
    "{% else %}{{ message['role'].capitalize() + ': ' + message['content'] + '\n\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:\n' }}{% endif %}"
)


def give_template(tokenizer: Any) -> None:
    """Give the tokenizer of a base model a plain chat template."""
    if not tokenizer.chat_template:
        tokenizer.chat_template = PLAIN_TEMPLATE


def plain_note(tokenizer: Any) -> str:
    """What to say of a tokenizer with the plain template; else ""."""
    plain = tokenizer.chat_template == PLAIN_TEMPLATE
    return " It has no chat template: prompts are written plainly, `User: …`, `Assistant:`." if plain else ""


def encode_prompt(
    tokenizer: Any, messages: Sequence[Message], arguments: Mapping[str, Any] = {}
) -> tuple[np.ndarray, str, str]:
    """(tokens int64 [P], rendered text, the tag of the response that the template already opened, or "").

    Where a template refuses a system message (Gemma's), the message goes in front of the first user message.
    """
    text = _render(tokenizer, messages, arguments)
    tokens = tokenizer.encode(text, add_special_tokens=False)
    opened = _OPENED.search(text)
    return (
        np.asarray(tokens, dtype=np.int64),
        text,
        opened[0] if opened and _is_plain(tokenizer, opened) else "",
    )


def encode_raw(tokenizer: Any, text: str) -> np.ndarray:
    """The text's tokens, int64 [P], with those that the tokenizer puts around plain texts, such as <bos>."""
    return np.asarray(tokenizer(text)["input_ids"], dtype=np.int64)


def _is_plain(tokenizer: Any, opened: re.Match[str]) -> bool:
    """Whether the tag is part of the response rather than a control token such as <bos> or <assistant>."""
    return f"<{opened[1]}>" not in tokenizer.all_special_tokens


def _render(tokenizer: Any, messages: Sequence[Message], arguments: Mapping[str, Any]) -> str:
    from jinja2.exceptions import TemplateError

    def render(chat: Sequence[Message]) -> str:
        rows = [{"role": message.role, "content": message.content} for message in chat]
        return tokenizer.apply_chat_template(rows, add_generation_prompt=True, tokenize=False, **arguments)

    try:
        try:
            return render(messages)
        except TemplateError:
            if len(messages) < 2 or messages[0].role != "system":
                raise
            system, first, *rest = messages
            return render([Message(first.role, f"{system.content}\n\n{first.content}"), *rest])
    except TemplateError as refusal:
        raise PolicyError(
            f"the model's chat template refuses the messages: {refusal}",
            where=str(tokenizer.name_or_path),
            hint="Check the roles and their order; most templates want user and assistant in turn.",
        ) from refusal
