"""One completion of a live batch: its tokens, its text, and how it is held to the form of a response."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, Literal

from grandrounds.response.form import Form, FormReader, Part, Repair
from grandrounds.sampling.decoding import GrowingText, continuation
from grandrounds.sampling.noise import generator
from grandrounds.sampling.sampler import Key, SamplingSettings
from grandrounds.sampling.stop import StopStrings
from grandrounds.types import FinishReason, Prompt

# What is left for the answer's content where the maximum length ends a reasoning; a quarter of short completions.
ANSWER_TOKENS = 48
# Tokens of reasoning and answer that a response needs beside its tags.
LEAST_CONTENT = 8
# So many repairs, or tokens refused in one place, and the response counts as malformed.
MOST_REPAIRS, MOST_BANNED = 8, 32


@dataclass(frozen=True)
class Chosen:
    """A token and the log-probabilities of its place, at temperature 1 and without filters.

    top: the likeliest tokens, if they were asked for. forced: written by a repair and not sampled.
    """

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()
    forced: bool = False


@dataclass(frozen=True)
class RowRequest:
    """A completion to be decoded.

    key, place: its randomness, as in `noise.generator`. top: how many of the likeliest tokens are reported; with None
    no log-probs are. form: the form that the response must have, or None. on_leaving: what happens where it is left.
    """

    prompt: Prompt
    settings: SamplingSettings
    key: Key
    place: int = 0
    top: int | None = None
    form: Form | None = None
    on_leaving: Literal["repair", "refuse"] = "repair"


def least_tokens(form: Form, tokenizer: Any) -> int:
    """The shortest maximum length with which a response can have the form: its tags, and a few tokens of content."""
    tags = FormReader(form).longest_closing()
    return tokens_of(tokenizer, tags) + LEAST_CONTENT


def tokens_of(tokenizer: Any, text: str) -> int:
    """The tokens of a text that a repair writes, and one that a token boundary may cost."""
    return len(continuation(tokenizer, text)) + 1


class LiveRow:
    """A completion while it is decoded.

    chosen: its tokens so far. finish: why it has ended, or None; "length" too where a repair ended the reasoning since
    little was left. malformed: it left the form and was not brought back. repairs: how often it was brought back.
    """

    def __init__(self, request: RowRequest, tokenizer: Any, ends: frozenset[int]) -> None:
        self.request = request
        self.noise = generator(request.key, request.prompt.case.id, request.place)
        self.chosen: list[Chosen] = []
        self.finish: FinishReason | None = None
        self.malformed = False
        self.repairs = 0
        self._cut_short = False
        self._counts: dict[str, int] = {}  # tokens of the tags that are still to come
        self.forced: deque[int] = deque()
        self.banned: set[int] = set()
        self.reader = FormReader(request.form, request.prompt.prefilled) if request.form else None
        self._tokenizer, self._ends = tokenizer, ends
        self._spoken = GrowingText(tokenizer)
        self._stops = StopStrings(tokenizer, request.settings.stop) if request.settings.stop else None

    @property
    def text(self) -> str:
        """The decoded tokens."""
        return self._spoken.text

    @property
    def ends(self) -> list[int]:
        """For each token, where its text ends."""
        return self._spoken.ends

    @property
    def length(self) -> int:
        """Tokens of prompt and completion."""
        return len(self.request.prompt.tokens) + len(self.chosen)

    @property
    def newest(self) -> int:
        """The token to be computed next: the last one of prompt and completion."""
        return self.chosen[-1].token if self.chosen else int(self.request.prompt.tokens[-1])

    def take(self, chosen: Chosen) -> None:
        """Add a token, or refuse it: then the place is sampled again, or what the form demands is written."""
        left = self.request.settings.max_new_tokens - len(self.chosen) - 1
        ended = chosen.token in self._ends
        self._add(chosen, last=ended or not left)
        ended = ended or (self._stops is not None and self._stops.found(self._spoken.tokens))
        repair = self._leaving(ended, left)
        if repair is not None and self.request.on_leaving == "refuse":
            self.finish, self.malformed = "stop" if ended or left else "length", True
        elif repair is not None and left:
            self._mend(repair)
        elif self.reader is not None and self.reader.part is Part.done:
            self.finish = "length" if self._cut_short else "stop"
        elif ended or not left:
            self.finish = "stop" if ended else "length"
            self.malformed = self.reader is not None
        if not self.forced and repair is None:
            self.banned.clear()

    def _add(self, chosen: Chosen, *, last: bool) -> None:
        self.chosen.append(chosen)
        self._spoken.add(chosen.token, last=last)

    def _leaving(self, ended: bool, left: int) -> Repair | None:
        """The repair that is due, because of the newest token, or because little is left."""
        if self.reader is None:
            return None
        repair = self.reader.read(self.text)
        if repair is None and ended:
            return self.reader.ended()
        repairs = self.request.on_leaving == "repair"
        if repair is None and repairs and not self.forced and left <= self._reserve():
            closing = self.reader.ended()
            if closing is None or closing.then is None:  # a part that is still empty goes on
                return None
            self._cut_short = True
            return closing
        return repair

    def _reserve(self) -> int:
        """The tokens that are needed to complete the response from here."""
        assert self.reader is not None
        if self.reader.part is Part.done:
            return 0
        content = min(ANSWER_TOKENS, self.request.settings.max_new_tokens // 4)
        tags = self.reader.longest_closing()
        if tags not in self._counts:
            self._counts[tags] = tokens_of(self._tokenizer, tags)
        return self._counts[tags] + (self.reader.part is not Part.answer) * content

    def _mend(self, repair: Repair) -> None:
        """Take tokens back as far as the repair says, and have its text follow."""
        if repair.then is None:
            self.banned.add(self.chosen[-1].token)
            self._cut(len(self.chosen) - 1)
            if len(self.banned) > MOST_BANNED or self.forced:
                self.finish, self.malformed = "stop", True
            return
        self.repairs += 1
        text = self.text
        self._cut(self._spoken.within(repair.keep))
        self.banned.clear()
        lost = text[len(self.text) : repair.keep]
        forced = continuation(self._tokenizer, lost + repair.then)
        if len(forced) > self.request.settings.max_new_tokens - len(self.chosen):
            # Bytes that are no character are more tokens when they are written again as U+FFFD: the form comes first.
            forced = continuation(self._tokenizer, repair.then)
        self.forced = deque(forced)
        if self.repairs > MOST_REPAIRS:
            self.finish, self.malformed = "stop", True

    def _cut(self, count: int) -> None:
        del self.chosen[count:]
        self._spoken.keep(count)
        if self.reader is not None:
            self.reader.read(self.text)
