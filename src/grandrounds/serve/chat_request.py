"""A request for chat completions, checked field by field. What would change the answer and cannot is refused."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError

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
    "repetition_penalty": (1,),
    "audio": (),
    "prediction": (),
    "reasoning_effort": (),
    "verbosity": (),
    "web_search_options": (),
}
# Words about the request, for the sender's own use. They change no answer and are not kept.
_IGNORED = ("user", "metadata", "safety_identifier", "prompt_cache_key")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class ChatMessage(_Strict):
    """A message. An assistant's may carry its reasoning, as the server gave it."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str = ""
    name: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _is_text(cls, message: Any) -> Any:
        """Names what is asked for and not done: tools, images, sound. Null is the same as nothing."""
        if not isinstance(message, dict):
            return message
        message = {name: value for name, value in message.items() if value is not None}
        if message.get("role") in ("tool", "function") or not _TOOLS.isdisjoint(message):
            raise _unsupported("tools are not supported by this server")
        if "content" not in message and message.get("role") != "assistant":
            raise _unsupported("the message has no `content`")
        if isinstance(message.get("content"), list):
            message["content"] = "".join(map(_text_of, message["content"]))
        return message

    def as_message(self, grammar: Grammar) -> Message:
        """The message as the policy reads it: an assistant's reasoning and answer stand in their tags again."""
        reasoning = self.reasoning or self.reasoning_content
        if self.role == "assistant":
            return Message(
                "assistant", grammar.render(reasoning, self.content) if reasoning else self.content
            )
        return Message("user" if self.role == "user" else "system", self.content)


_TOOLS = frozenset(("tool_calls", "tool_call_id", "function_call"))


def _text_of(part: Any) -> str:
    """The text of a part of a message's content."""
    kind = part.get("type") if isinstance(part, dict) else None
    if kind != "text" or not isinstance(part.get("text"), str):
        named = f"content of type `{kind}`" if isinstance(kind, str) else "content without a type"
        raise _unsupported(f"{named} is not supported by this server; text alone is")
    return str(part["text"])


def _unsupported(what: str) -> PydanticCustomError:
    return PydanticCustomError("unsupported", "{what}", {"what": what})


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
    def longest(self) -> tuple[str, int | None]:
        """(the field that says how many tokens are asked for at most, and what it says). The newer field decides."""
        if self.max_completion_tokens is not None:
            return "max_completion_tokens", self.max_completion_tokens
        return "max_tokens", self.max_tokens

    def conversation(self, grammar: Grammar) -> tuple[Message, ...]:
        """The messages as the policy reads them. ApiError where the last one is not the user's, or is empty."""
        messages = tuple(message.as_message(grammar) for message in self.messages)
        if messages[-1].role != "user":
            raise ApiError(400, "The last message must be the user's.", param="messages")
        if not messages[-1].content.strip():
            raise ApiError(400, "The last message is empty.", param="messages")
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
    if request.stream_options is not None and not request.stream:
        raise ApiError(400, "`stream_options` needs `stream: true`.", param="stream_options")
    return request


def _first(error: ValidationError) -> ApiError:
    problem = error.errors(include_url=False, include_input=False)[0]
    if problem["type"] == "json_invalid":
        return ApiError(400, "The body is not valid JSON.", code="invalid_json")
    place = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "unsupported":
        return ApiError(400, f"`{place}`: {problem['msg']}.", param=place, code="unsupported_value")
    if problem["type"] == "extra_forbidden":
        return ApiError(
            400, f"Unknown or unsupported field: `{place}`.", param=place, code="unknown_parameter"
        )
    return ApiError(400, f"`{place}`: {problem['msg']}.", param=place, code="invalid_value")
