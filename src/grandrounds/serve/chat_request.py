"""A request for chat completions, checked field by field. What would change the answer and cannot is refused."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from grandrounds.response.grammar import Grammar
from grandrounds.serve.errors import ApiError
from grandrounds.types import Message

# What asks for nothing that is not done anyway. Any other value is refused.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "store": (False,),
    "service_tier": ("auto", "default"),
}
# Words about the request, for the sender's own use. They change no answer and are not kept.
_IGNORED = ("user", "metadata", "safety_identifier", "prompt_cache_key")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class TextPart(_Strict):
    """A part of a message's content."""

    type: Literal["text"]
    text: str


class ChatMessage(_Strict):
    """A message. An assistant's may carry its reasoning, as the server gave it."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart] | None = None
    name: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None

    def as_message(self, grammar: Grammar) -> Message:
        """The message as the policy reads it: an assistant's reasoning and answer stand in their tags again."""
        content = self.content or ""
        text = content if isinstance(content, str) else "".join(part.text for part in content)
        reasoning = self.reasoning or self.reasoning_content
        if self.role == "assistant":
            return Message("assistant", grammar.render(reasoning, text) if reasoning else text)
        return Message("user" if self.role == "user" else "system", text)


class StreamOptions(_Strict):
    """What a stream has besides the choices."""

    include_usage: bool = False
    include_obfuscation: bool = False


class ChatRequest(_Strict):
    """The body of a request. top_k and min_p are not OpenAI's; None stands for the policy's own setting."""

    model: str
    messages: list[ChatMessage] = Field(min_length=1)
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: int = Field(1, ge=1)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=0)
    min_p: float | None = Field(None, ge=0, le=1)
    seed: int | None = None
    stop: list[Annotated[str, Field(min_length=1)]] = Field([], max_length=4)
    logprobs: bool = False
    top_logprobs: int | None = Field(None, ge=0, le=20)

    @field_validator("stop", mode="before")
    @classmethod
    def _one_stop(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @property
    def longest(self) -> int | None:
        """The most tokens asked for."""
        return self.max_completion_tokens or self.max_tokens

    def conversation(self, grammar: Grammar) -> tuple[Message, ...]:
        """The messages as the policy reads them. ApiError where the last one is not the user's."""
        messages = tuple(message.as_message(grammar) for message in self.messages)
        if messages[-1].role != "user":
            raise ApiError(400, "The last message must be the user's.", param="messages")
        if any(message.role == "system" for message in messages[1:]):
            raise ApiError(
                400, "A system message must come first, and there may be one only.", param="messages"
            )
        return messages


def parse_request(body: bytes) -> ChatRequest:
    """ApiError for what is no JSON object, has unknown fields, or asks for what is not done."""
    try:
        values = json.loads(body)
    except (ValueError, RecursionError):
        raise ApiError(400, "The body is not valid JSON.", code="invalid_json") from None
    if not isinstance(values, dict):
        raise ApiError(400, "The body must be a JSON object.", code="invalid_json")
    # As in OpenAI's API, null is the same as nothing.
    values = {name: value for name, value in values.items() if value is not None and name not in _IGNORED}
    for name, neutral in _NEUTRAL.items():
        if name in values and values.pop(name) not in neutral:
            raise ApiError(
                400, f"`{name}` is not supported by this server.", param=name, code="unsupported_parameter"
            )
    try:
        # As JSON once more: strict about types, and halves of surrogate pairs, which are no text, are refused.
        request = ChatRequest.model_validate_json(json.dumps(values))
    except ValidationError as error:
        raise _first(error) from None
    if request.top_logprobs is not None and not request.logprobs:
        raise ApiError(400, "`top_logprobs` needs `logprobs: true`.", param="top_logprobs")
    return request


def _first(error: ValidationError) -> ApiError:
    problem = error.errors(include_url=False, include_input=False)[0]
    if problem["type"] == "json_invalid":
        return ApiError(400, "The body is not valid JSON.", code="invalid_json")
    place = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return ApiError(400, f"Unknown field: `{place}`.", param=place, code="unknown_parameter")
    return ApiError(400, f"`{place}`: {problem['msg']}.", param=place, code="invalid_value")
