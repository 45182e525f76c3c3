"""Shapes that are used in every field: MMLU, ARC, Alpaca, ShareGPT, chats, prompt and completion, prompts alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

from grandrounds.cases.formats.answers import NO_GOLD, gold_answer
from grandrounds.cases.formats.fields import LETTERS, Fields, choice, plain_text
from grandrounds.types import Answer, Case, Demonstration, Message

# A response that thinks aloud first, as reasoning models write it; and an answer in tags.
_THOUGHT = re.compile(
    r"\s*<(?P<tag>think|thinking|reasoning)>(?P<reasoning>.*?)</(?P=tag)>(?P<answer>.*)", re.DOTALL
)
_ANSWER = re.compile(r"\s*<answer>(?P<answer>.*)</answer>\s*", re.DOTALL)
# ShareGPT's names of who speaks.
SPEAKERS = {"system": "system", "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}


def case_of(fields: Fields, question: str | tuple[Message, ...], gold: Answer, **parts: Any) -> Case:
    """A case with the row's own id, or its number, and the columns that nobody has asked for."""
    return Case(
        id=fields.maybe_text("id") or f"{fields.position:06d}",
        question=question,
        gold=gold,
        **{"columns": fields.rest(), **parts},
    )


def answered_case(fields: Fields, question: str | tuple[Message, ...], response: str) -> Case:
    """A case from a whole response. Of one that thinks aloud, the thoughts are a demonstration's reasoning, and only
    what comes after them is the gold answer.
    """
    thought = _THOUGHT.match(response)
    reasoning, answer = (thought["reasoning"].strip(), thought["answer"]) if thought else ("", response)
    tagged = _ANSWER.match(answer)
    answer = (tagged["answer"] if tagged else answer).strip()
    gold = gold_answer(fields, answer)
    demonstration = Demonstration(reasoning, answer) if reasoning else None
    return case_of(fields, question, gold, demonstration=demonstration)


def mmlu_case(fields: Fields) -> Case:
    """MMLU (arXiv:2009.03300): `choices`, and `answer` as the right one's number from 0, its letter or its text."""
    question, options, subject = (
        fields.text("question"),
        fields.options("choices"),
        fields.maybe_text("subject"),
    )
    answer = fields.text("answer")
    # A number counts from 0, also among options that are numbers; digits in a text may be an option's own text.
    counts = isinstance(fields.get("answer"), int)
    number = answer.isdigit() and (counts or answer not in options.values())
    if number and int(answer) >= len(options):
        fields.fail(f"the answer is choice number {answer} of {len(options)}, counted from 0", "Correct it.")
    letter = LETTERS[int(answer)] if number else None
    gold = choice(fields, options, None if number else answer, letter)
    return case_of(fields, question, gold, options=options, tags={"subject": subject} if subject else {})


def arc_case(fields: Fields) -> Case:
    """ARC (arXiv:1803.05457), CommonsenseQA, OpenBookQA: `choices` as texts and labels, `answerKey` as a label."""
    name = "question" if "question" in fields.values else "question_stem"
    question, choices = fields.text(name), fields.mapping("choices")
    texts, labels = choices.get("text") or [], choices.get("label") or []
    if not isinstance(texts, list) or not isinstance(labels, list) or len(texts) != len(labels) or not texts:
        fields.fail("`choices` should hold as many texts as labels", 'Write {"text": […], "label": […]}.')
    key = fields.text("answerKey")
    if key not in map(str, labels):
        fields.fail(
            f"the answerKey `{key}` is not among the labels {', '.join(map(str, labels))}", "Correct it."
        )
    options = dict(zip(LETTERS, map(plain_text, texts), strict=False))
    letter = LETTERS[[str(label) for label in labels].index(key)]
    return case_of(fields, question, choice(fields, options, None, letter), options=options)


def alpaca_case(fields: Fields) -> Case:
    """Alpaca: `instruction`, `input` and the `output` to be given; Dolly calls them `context` and `response`."""
    instruction, output = fields.text("instruction"), "output" if "output" in fields.values else "response"
    further = fields.maybe_text("input") or fields.maybe_text("context")
    question = f"{instruction}\n{further}" if further else instruction
    return answered_case(fields, question, fields.text(output))


def sharegpt_case(fields: Fields) -> Case:
    """ShareGPT: `conversations` of `from` and `value`; the last answer is the gold one."""
    messages = []
    for part in _list(fields, "conversations"):
        role = SPEAKERS.get(str(part.get("from"))) if isinstance(part, Mapping) else None
        if role is None or not isinstance(part.get("value"), str):
            fields.fail("a turn should have `from` (system, human, gpt) and `value`", "Correct the turn.")
        messages.append(Message(cast(Any, role), part["value"]))
    return chat_case(fields, messages)


def messages_case(fields: Fields) -> Case:
    """OpenAI's `messages` with the answer in them, or without one; Open-R1's rows too."""
    return chat_case(fields, read_messages(fields, "messages"))


def chat_case(fields: Fields, messages: list[Message]) -> Case:
    """A conversation up to the user's last message; what the assistant says after it is the gold answer."""
    answer = None
    if messages and messages[-1].role == "assistant":
        answer = messages.pop().content.strip()
    if not messages or messages[-1].role != "user":
        fields.fail(
            "there is no user's message to answer", "End the messages with the user's, or with its answer."
        )
    if answer is None:
        return case_of(fields, tuple(messages), NO_GOLD)
    return answered_case(fields, tuple(messages), answer)


def completion_case(fields: Fields) -> Case:
    """TRL's `prompt` and `completion`, each text or messages; the completion is the gold answer."""
    prompt, completion = _text_or_messages(fields, "prompt"), _text_or_messages(fields, "completion")
    answer = completion if isinstance(completion, str) else completion[-1].content
    question = prompt if isinstance(prompt, str) else tuple(prompt)
    return answered_case(fields, question, answer)


def prompt_case(fields: Fields) -> Case:
    """A `prompt` alone, for rewards that need no gold answer."""
    prompt = _text_or_messages(fields, "prompt")
    return case_of(fields, prompt, NO_GOLD) if isinstance(prompt, str) else chat_case(fields, prompt)


def read_messages(fields: Fields, name: str) -> list[Message]:
    """A chat as messages. CaseError where one of them has no role or no text."""
    messages = []
    for part in _list(fields, name):
        role = part.get("role") if isinstance(part, Mapping) else None
        if role not in ("system", "user", "assistant") or not isinstance(part.get("content"), str):
            fields.fail(
                "a message should have a role (system, user, assistant) and text content",
                'Write {"role": "user", "content": "…"}.',
            )
        messages.append(Message(cast(Any, role), part["content"]))
    return messages


def _text_or_messages(fields: Fields, name: str) -> str | list[Message]:
    value = fields.structure(name)
    return read_messages(fields, name) if isinstance(value, (list, tuple)) and value else fields.text(name)


def _list(fields: Fields, name: str) -> list[Any]:
    value = fields.structure(name)
    if not isinstance(value, (list, tuple)) or not value:
        fields.fail(f"`{name}` should be a list of messages", "Correct it.")
    return list(value)
