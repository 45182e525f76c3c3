"""Turns a case into the messages that a policy is asked, and gives the gold answer in the form asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from grandrounds.recipe import PromptRecipe
from grandrounds.types import Case, Message

DEFAULT_SYSTEM = """\
Think before you answer. First reason between <{reasoning}> and </{reasoning}>: state the findings, weigh \
each candidate with what speaks for and against it, check yourself, and conclude. Then give only the final \
answer between <{answer}> and </{answer}>.{options}"""

_WITH_OPTIONS = " Answer with the text of one option."
_WITH_SEVERAL = " Answer with the texts of all options that apply, semicolons between them."


def ask(case: Case, prompt: PromptRecipe) -> tuple[Message, ...]:
    """Chat messages: the system message unless the recipe's is empty, the recipe's examples, then the case.

    A case that is a conversation already is passed on unchanged: it contains its context and options, and its own
    system message replaces the recipe's.
    """
    system = prompt.system
    if system is None:
        system = DEFAULT_SYSTEM.format(
            reasoning=prompt.reasoning_tag,
            answer=prompt.answer_tag,
            options=_asked_for(case),
        )
    messages = (
        (Message("user", _user_text(case)),) if isinstance(case.question, str) else tuple(case.question)
    )
    if system and messages[0].role != "system":
        messages = (Message("system", system), *messages)
    first = int(messages[0].role == "system")
    return (*messages[:first], *_examples(prompt), *messages[first:])


def _asked_for(case: Case) -> str:
    if case.gold.kind == "choices":
        return _WITH_SEVERAL
    return _WITH_OPTIONS if case.options else ""


def _examples(prompt: PromptRecipe) -> Iterator[Message]:
    for example in prompt.examples:
        yield Message("user", example.question)
        yield Message("assistant", example.response)


def _user_text(case: Case) -> str:
    assert isinstance(case.question, str)
    parts = [*case.context, case.question]
    options = shown_options(case.options, case.option_notes)
    parts.append("\n".join(f"{letter}. {text}" for letter, text in options.items()))
    return "\n".join(part for part in parts if part)


def shown_options(options: Mapping[str, str], notes: Mapping[str, str]) -> dict[str, str]:
    """Letter -> the option as the policy reads it, with its note: "Cellulitis (spreading red skin, chills)"."""
    return {
        letter: f"{text} ({notes[text]})" if notes.get(text) else text for letter, text in options.items()
    }


def gold_text(case: Case) -> str:
    """The gold answer in the form that is asked for: "Pericarditis", or a number with its unit if it has one.

    Where another option has the same text, the letter is added: "B. Pericarditis".
    """
    gold = case.gold
    if (
        gold.kind == "choice"
        and [text.lower() for text in case.options.values()].count(gold.text.lower()) > 1
    ):
        return lettered_gold(case)
    if gold.kind == "number" and gold.unit and gold.unit not in gold.text:
        return f"{gold.text} {gold.unit}"
    return gold.text


def lettered_gold(case: Case) -> str:
    """The gold answer for a reader, with its option's letter if there is one: "B. Pericarditis"."""
    return gold_text(case) if case.gold.letter is None else f"{case.gold.letter}. {case.gold.text}"
