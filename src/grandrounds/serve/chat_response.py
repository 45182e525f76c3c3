"""Chat completions as OpenAI's clients read them, whole or as a stream of server-sent events."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from grandrounds.serve.choice import Update


@dataclass
class ChatResponse:
    """A response that grows by updates. stream_usage: whether a stream ends with its usage."""

    model: str
    count: int
    prompt_tokens: int
    logprobs: bool = False
    stream_usage: bool = False
    id: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))

    def __post_init__(self) -> None:
        self._updates: list[list[Update]] = [[] for _ in range(self.count)]

    def add(self, updates: Sequence[Update]) -> None:
        """Take note of what is new."""
        for update in updates:
            self._updates[update.index].append(update)

    @property
    def complete(self) -> bool:
        """Whether every choice has ended."""
        return all(updates and updates[-1].finish for updates in self._updates)

    @property
    def usage(self) -> dict[str, int]:
        """Tokens of the prompt, and of all choices."""
        tokens = sum(updates[-1].tokens for updates in self._updates if updates)
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": tokens,
            "total_tokens": self.prompt_tokens + tokens,
        }

    def whole(self) -> dict[str, Any]:
        """The response that is not streamed."""
        choices = [self._choice(index, updates) for index, updates in enumerate(self._updates)]
        return {**self._head("chat.completion"), "choices": choices, "usage": self.usage}

    def _choice(self, index: int, updates: Sequence[Update]) -> dict[str, Any]:
        reasoning = "".join(update.reasoning for update in updates)
        last = updates[-1]
        content = None if last.refusal else "".join(update.content for update in updates)
        logprobs = [entry for update in updates for entry in update.logprobs]
        message = {"role": "assistant", "content": content, "refusal": last.refusal, **_reasoned(reasoning)}
        return {
            "index": index,
            "message": message,
            "finish_reason": last.finish,
            "logprobs": _logged(logprobs) if self.logprobs else None,
            "repaired": bool(last.repairs),
        }

    def begin(self) -> list[str]:
        """The events that open a stream: who speaks, for each choice."""
        delta = {"role": "assistant", "content": ""}
        return [self._event([self._part(index, delta)]) for index in range(self.count)]

    def events(self, updates: Sequence[Update]) -> list[str]:
        """Events for what is new."""
        return [self._event([part]) for update in updates for part in self._parts(update)]

    def end(self) -> list[str]:
        """The events that close a stream."""
        last = [self._event([], self.usage)] if self.stream_usage else []
        return [*last, "data: [DONE]\n\n"]

    def _parts(self, update: Update) -> list[dict[str, Any]]:
        parts = []
        if update.reasoning:
            parts.append(self._part(update.index, _reasoned(update.reasoning)))
        if update.content or update.logprobs:
            parts.append(self._part(update.index, {"content": update.content}, update.logprobs))
        if update.finish:
            delta = {"refusal": update.refusal} if update.refusal else {}
            last = self._part(update.index, delta)
            parts.append({**last, "finish_reason": update.finish, "repaired": bool(update.repairs)})
        return parts

    def _part(
        self, index: int, delta: dict[str, Any], logprobs: Sequence[dict[str, Any]] = ()
    ) -> dict[str, Any]:
        logs = _logged(logprobs) if logprobs else None
        return {"index": index, "delta": delta, "finish_reason": None, "logprobs": logs}

    def _event(self, choices: list[dict[str, Any]], usage: dict[str, int] | None = None) -> str:
        # Where usage is asked for, every event has the field, and the last one fills it.
        counted = {"usage": usage} if self.stream_usage else {}
        return event({**self._head("chat.completion.chunk"), "choices": choices, **counted})

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def _reasoned(text: str) -> dict[str, str]:
    """The reasoning, under both names that clients look for."""
    return {"reasoning": text, "reasoning_content": text}


def _logged(entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {"content": list(entries), "refusal": None}


def event(value: dict[str, Any]) -> str:
    """A server-sent event. ASCII alone: no character of a model's can end a line."""
    return f"data: {json.dumps(value)}\n\n"
