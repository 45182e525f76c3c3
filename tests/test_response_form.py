"""What the form's reader lets through and repairs, the grammar reads without a defect; and nothing is taken back."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from grandrounds.response.form import Form, FormReader, Part
from grandrounds.response.grammar import Defect, Grammar

GRAMMAR = Grammar()
PIECES = (
    *("<reasoning>", "</reasoning>", "<answer>", "</answer>", "< answer >", "</ Reasoning>", "<ANSWER>"),
    *(
        "<",
        ">",
        "/",
        "<a",
        "nswer",
        "<reas",
        "oning>",
        " ",
        "\n",
        "x",
        "pain; no fever",
        "</answer",
        "<b>",
        "é",
    ),
)


class Writer:
    """Writes pieces as a model would, and does what the reader asks for."""

    def __init__(self, form: Form, prefilled: str = "") -> None:
        self.reader, self.text, self.shown = FormReader(form, prefilled), "", ("", "")
        self.repairs = 0

    def write(self, piece: str) -> None:
        if self.reader.part is not Part.done:
            repair = self.reader.read(self.text + piece)
            if repair is None:
                self.text += piece
            elif repair.then is None:
                self.reader.read(self.text)  # the piece is refused
            else:
                self._mend((self.text + piece)[: repair.keep], repair.then)
            self._look()

    def end(self) -> None:
        while (repair := self.reader.ended()) is not None:
            if repair.then is None:
                self.write("x")  # an empty part goes on
            else:
                self._mend(self.text[: repair.keep], repair.then)
            self._look()

    def _mend(self, kept: str, then: str) -> None:
        self.repairs += 1
        self.text = kept + then
        assert self.reader.read(self.text) is None

    def _look(self) -> None:
        """What a reader of the stream has seen is never taken back."""
        now = self.reader.reasoning(), self.reader.answer()
        for seen, there in zip(self.shown, now, strict=True):
            assert there.startswith(seen)
        self.shown = now


@example(pieces=["<answer>"], reasoning=True, prefilled="")
@example(pieces=["<reasoning>", "x", "<answer", ">"], reasoning=True, prefilled="")
@given(
    st.lists(st.sampled_from(PIECES), max_size=25),
    st.booleans(),
    st.sampled_from(("", "<reasoning>\n", "<x>")),
)
def test_every_response_is_brought_to_the_form(
    pieces: Sequence[str], reasoning: bool, prefilled: str
) -> None:
    form = Form(GRAMMAR, reasoning)
    writer = Writer(form, prefilled if reasoning else "")
    for piece in pieces:
        writer.write(piece)
    writer.end()
    whole = writer.text[: writer.reader.end]
    response = GRAMMAR.parse(whole, prefilled=prefilled if reasoning else "")
    assert form.defects(response) == ()
    assert writer.reader.answer() == response.answer
    assert writer.reader.reasoning() == (response.reasoning or "")
    assert writer.repairs <= 8 + len(pieces)


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("The pain is", "<reasoning>\n"),
        ("<reasoning>a</reasoning> so: ", "<reasoning>a</reasoning> <answer>"),
        ("<reasoning>a <answer>", "<reasoning>a \n</reasoning>\n<answer>"),
        ("<reasoning>a</reasoning><answer>b <reasoning>", "<reasoning>a</reasoning><answer>b </answer>"),
    ],
)
def test_a_repair_keeps_what_is_right_and_writes_what_is_missing(text: str, after: str) -> None:
    repair = FormReader(Form(GRAMMAR)).read(text)
    assert repair is not None
    assert text[: repair.keep] + str(repair.then) == after


def test_a_response_that_keeps_the_form_is_left_alone() -> None:
    text, reader = GRAMMAR.render("Findings: a <b and c.", "B > A"), FormReader(Form(GRAMMAR))
    for size in range(len(text) + 1):
        assert reader.read(text[:size]) is None
    assert (reader.part, reader.reasoning(), reader.answer()) == (
        Part.done,
        "Findings: a <b and c.",
        "B > A",
    )
    assert reader.ended() is None
    assert reader.answer_span() == (text.index("B > A"), text.index("</answer>"))


def test_what_may_become_a_tag_is_held_back() -> None:
    reader = FormReader(Form(GRAMMAR))
    for text, shown in (("a <", "a"), ("a </reas", "a"), ("a </reasx", "a </reasx"), ("a < 3", "a < 3")):
        reader.read("<reasoning>" + text)
        assert reader.reasoning() == shown


def test_an_empty_part_cannot_be_closed() -> None:
    for text in ("<reasoning></reasoning>", "<reasoning>x</reasoning><answer> </answer>"):
        repair = FormReader(Form(GRAMMAR)).read(text)
        assert repair is not None
        assert repair.then is None


def test_a_policy_that_learnt_the_answer_alone_needs_no_reasoning() -> None:
    form, reader = Form(GRAMMAR, reasoning=False), FormReader(Form(GRAMMAR, reasoning=False))
    assert reader.read("<answer>B</answer>") is None
    assert reader.part is Part.done
    assert form.defects(GRAMMAR.parse("<answer>B</answer>")) == ()
    assert Form(GRAMMAR).defects(GRAMMAR.parse("<answer>B</answer>")) == (Defect.reasoning_missing,)
