"""The grammar of a response: what is read, what is named a defect, and what is never guessed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grandrounds.cases.ask import ask, gold_text, lettered_gold
from grandrounds.recipe import PromptRecipe
from grandrounds.response import Defect, Grammar
from grandrounds.types import Answer, Case, Message

GRAMMAR = Grammar()
PLAIN = st.text(st.characters(blacklist_characters="<>", blacklist_categories=("Cs",)), max_size=200)
PIECES = [
    "<reasoning>",
    "</reasoning>",
    "<answer>",
    "</answer>",
    "< ANSWER >",
    "x",
    "\n",
    "<",
    ">",
    "</",
    " ",
]


@given(reasoning=PLAIN, answer=PLAIN)
def test_what_is_rendered_is_parsed_back(reasoning: str, answer: str) -> None:
    response = GRAMMAR.parse(GRAMMAR.render(reasoning, answer))
    assert (response.reasoning, response.answer) == (reasoning.strip(), answer.strip())
    assert set(response.defects) <= {Defect.reasoning_empty, Defect.answer_empty}


@given(st.one_of(st.text(max_size=300), st.lists(st.sampled_from(PIECES), max_size=40).map("".join)))
def test_no_text_makes_the_parser_raise(text: str) -> None:
    response = GRAMMAR.parse(text, prefilled="<reasoning>\n", finished=False)
    assert Defect.cut_off in response.defects
    assert response.outline is response.outline


@given(st.lists(st.sampled_from(PIECES), max_size=40).map("".join))
def test_a_response_without_defects_is_what_render_makes(text: str) -> None:
    response = GRAMMAR.parse(text)
    if not response.defects:
        again = GRAMMAR.parse(GRAMMAR.render(response.reasoning, response.answer or ""))
        assert (again.reasoning, again.answer) == (response.reasoning, response.answer)


@pytest.mark.parametrize(
    ("text", "answer", "defects"),
    [
        ("<reasoning>r</reasoning><answer>B</answer>", "B", []),
        (" < Reasoning >r</ REASONING >\n<answer> B\nC </answer>\n", "B\nC", []),
        ("<answer>B</answer>", "B", ["reasoning_missing"]),
        ("The answer is B.", None, ["text_outside_tags", "reasoning_missing", "answer_missing"]),
        ("Hm. <reasoning>r</reasoning><answer>B</answer>", "B", ["text_outside_tags"]),
        ("<reasoning>r</reasoning><answer>A</answer><answer>B</answer>", "B", ["answer_repeated"]),
        ("<reasoning>r</reasoning><reasoning>s</reasoning><answer>B</answer>", "B", ["reasoning_repeated"]),
        ("<answer>B</answer><reasoning>r</reasoning>", "B", ["wrong_order"]),
        ("<reasoning> </reasoning><answer></answer>", "", ["reasoning_empty", "answer_empty"]),
        ("<reasoning>r<answer>A</answer></reasoning>", None, ["answer_missing", "tag_nested"]),
        ("<reasoning>r<answer>A</answer></reasoning><answer>B</answer>", "B", ["tag_nested"]),
        (
            "<reasoning>r <answer>B</answer>",
            "B",
            ["text_outside_tags", "reasoning_missing", "tag_unclosed"],
        ),
        ("<reasoning>r</reasoning><answer>B", None, ["text_outside_tags", "answer_missing", "tag_unclosed"]),
        ("r</reasoning><answer>B</answer>", "B", ["text_outside_tags", "reasoning_missing", "tag_unopened"]),
        (
            '<reasoning>r</reasoning><answer kind="x">B</answer>',
            None,
            ["text_outside_tags", "answer_missing", "tag_unopened"],
        ),
    ],
)
def test_each_defect_is_named(text: str, answer: str | None, defects: list[str]) -> None:
    response = GRAMMAR.parse(text)
    assert response.answer == answer
    assert list(response.defects) == defects


def test_a_tag_that_the_chat_template_opened_is_open() -> None:
    response = Grammar("think", "answer").parse("r</think><answer>B</answer>", prefilled="<think>\n")
    assert (response.reasoning, response.answer, response.defects) == ("r", "B", ())


@pytest.mark.parametrize("prefilled", ["<think>\n\n</think>\n\n", "<think>\n", "<reasoning></reasoning>"])
def test_what_else_the_template_wrote_is_not_held_against_the_policy(prefilled: str) -> None:
    assert GRAMMAR.parse("<reasoning>r</reasoning><answer>B</answer>", prefilled=prefilled).defects == ()


@pytest.mark.parametrize(
    "text",
    [
        "<" + " " * 200_000,
        "<answer>" * 15_000 + "</reasoning>" * 10_000,
        "<answer></answer>" * 10_000,
        "<reasoning>most likely \n" + "therefore " * 10_000 + "</reasoning>",
        "<reasoning>Findings: " + "a; " * 50_000 + "\nX: for " + "a , " * 30_000 + "</reasoning>",
        "<reasoning>x: for a" + " " * 200_000 + "b</reasoning>",
    ],
)
def test_long_and_malformed_output_is_parsed(text: str) -> None:
    response = GRAMMAR.parse(text)  # a parser of quadratic time would take minutes
    assert response.defects
    assert response.outline is None or response.outline.check is None


def test_the_system_message_names_the_tags_and_an_empty_one_is_not_sent() -> None:
    case = Case("1", "Which?", Answer("choice", "y", "B"), {"A": "x", "B": "y"}, context=("Note.",))
    system, user = ask(case, PromptRecipe(reasoning_tag="think"))
    assert "<think>" in system.content
    assert "<answer>" in system.content
    assert user == Message("user", "Note.\nWhich?\nA. x\nB. y")
    assert ask(case, PromptRecipe(system="")) == (user,)


def test_a_conversation_keeps_its_own_system_message() -> None:
    chat = (Message("system", "Be brief."), Message("user", "Which?"))
    assert ask(Case("1", chat, Answer("text", "y")), PromptRecipe()) == chat


@pytest.mark.parametrize(
    ("gold", "text"),
    [
        (Answer("choice", "y", "B"), "y"),
        (Answer("number", "5", value=5, unit="mg"), "5 mg"),
        (Answer("number", "5 mg", value=5, unit="mg"), "5 mg"),
        (Answer("label", "yes"), "yes"),
    ],
)
def test_gold_text_has_the_form_that_is_asked_for(gold: Answer, text: str) -> None:
    assert gold_text(Case("1", "q", gold, {"B": "y"} if gold.letter else {})) == text


def test_an_option_is_told_from_another_of_the_same_text_by_its_letter() -> None:
    case = Case("1", "q", Answer("choice", "y", "B"), {"A": "Y", "B": "y"})
    assert gold_text(case) == lettered_gold(case) == "B. y"


def test_readers_see_the_gold_option_with_its_letter() -> None:
    assert lettered_gold(Case("1", "q", Answer("choice", "y", "B"), {"A": "x", "B": "y"})) == "B. y"
    assert lettered_gold(Case("1", "q", Answer("label", "yes"))) == "yes"
