"""A request is read strictly: what would change the answer and cannot is refused, and says which field."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grandrounds.response.grammar import Grammar
from grandrounds.serve.chat_request import parse_request
from grandrounds.serve.errors import ApiError
from grandrounds.types import Message

ASKED = {"model": "m", "messages": [{"role": "user", "content": "Why?"}]}


def parse(**more: Any) -> Any:
    return parse_request(json.dumps({**ASKED, **more}).encode())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", 3),
        ("temperature", "1"),
        ("temperature", float("nan")),
        ("top_p", 0),
        ("n", 0),
        ("n", 1.5),
        ("stop", ["a"] * 5),
        ("stop", [""]),
        ("max_tokens", -1),
        ("logprobs", "yes"),
        ("top_logprobs", 3),
        ("tools", [{"type": "function"}]),
        ("response_format", {"type": "json_object"}),
        ("presence_penalty", 0.5),
        ("logit_bias", {"1": 5}),
        ("messages", []),
        ("messages", "hello"),
        ("messages", [{"role": "tool", "content": "x"}]),
        ("messages", [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]),
        ("messages", [{"role": "user", "content": "\ud800"}]),
        ("no_such_field", 1),
        ("reasoning_effort", "high"),
        ("stream_options", {"include_usage": True}),
    ],
)
def test_what_cannot_be_done_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ApiError) as refused:
        parse(**{field: value})
    assert refused.value.status == 400
    assert refused.value.code == "invalid_json" or field in (refused.value.param or "")


@pytest.mark.parametrize(
    ("message", "named"),
    [
        ({"role": "tool", "content": "x", "tool_call_id": "1"}, "tools"),
        ({"role": "assistant", "tool_calls": [{}]}, "tools"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, "image_url"),
        ({"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}, "input_audio"),
        ({"role": "user", "content": ["x"]}, "without a type"),
        ({"role": "user"}, "no `content`"),
        ({"role": "user", "content": None}, "no `content`"),
        ({"role": "user", "content": 5}, "valid string"),
        ({"role": "user", "content": "x", "colour": 1}, "colour"),
    ],
)
def test_a_message_is_refused_by_the_name_of_what_is_not_done(message: Any, named: str) -> None:
    with pytest.raises(ApiError, match=named) as refused:
        parse(messages=[message])
    assert (refused.value.param or "").startswith("messages.0")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'"x"', b"[" * 100_000, b'{"model": 1}'])
def test_malformed_bodies_are_refused(body: bytes) -> None:
    with pytest.raises(ApiError) as refused:
        parse_request(body)
    assert refused.value.status == 400


@given(st.binary(max_size=60) | st.recursive(st.none() | st.booleans() | st.text(), st.lists).map(json.dumps))
def test_no_body_raises_anything_else(body: Any) -> None:
    with pytest.raises(ApiError):
        parse_request(body if isinstance(body, bytes) else body.encode())


def test_null_and_neutral_values_are_as_good_as_nothing() -> None:
    assert parse(temperature=None, tools=[], presence_penalty=0, user="me", stop=None) == parse()
    assert parse(stop="x").stop == ["x"]
    assert parse(max_completion_tokens=9, max_tokens=5).longest == ("max_completion_tokens", 9)


def test_a_conversation_is_read_with_its_reasoning() -> None:
    asked = parse(
        messages=[
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Why"}, {"type": "text", "text": "?"}]},
            {"role": "assistant", "content": "So.", "reasoning": "Because.", "tool_calls": None},
            {"role": "user", "content": "And?"},
        ]
    )
    assert asked.conversation(Grammar()) == (
        Message("system", "Be brief."),
        Message("user", "Why?"),
        Message("assistant", "<reasoning>\nBecause.\n</reasoning>\n<answer>So.</answer>"),
        Message("user", "And?"),
    )


@pytest.mark.parametrize("content", ["", " \n", []])
def test_an_empty_question_is_refused(content: Any) -> None:
    with pytest.raises(ApiError, match="is empty"):
        parse(messages=[{"role": "user", "content": content}]).conversation(Grammar())


def test_the_user_has_the_last_word() -> None:
    with pytest.raises(ApiError, match="last message"):
        parse(messages=[{"role": "assistant", "content": "x"}]).conversation(Grammar())
    with pytest.raises(ApiError, match="system message"):
        parse(
            messages=[
                {"role": "user", "content": "x"},
                {"role": "system", "content": "y"},
                *ASKED["messages"],
            ]
        ).conversation(Grammar())
