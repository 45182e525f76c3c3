"""One choice of a response: what of a row may be shown, piece by piece."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from grandrounds.response.form import Part
from grandrounds.sampling.live_row import Chosen, LiveRow


@dataclass(frozen=True)
class Update:
    """What is new in a choice. refusal: why there is no answer. tokens: of its completion so far."""

    index: int
    reasoning: str = ""
    content: str = ""
    logprobs: tuple[dict[str, Any], ...] = ()
    finish: str | None = None
    refusal: str | None = None
    repairs: int = 0
    tokens: int = 0


class Choice:
    """Follows a row. What it has shown is never taken back.

    stops: strings that end the answer; they are not part of it.
    """

    def __init__(self, index: int, row: LiveRow, stops: Sequence[str], tokenizer: Any) -> None:
        self.row = row
        self._index, self._stops, self._tokenizer = index, stops, tokenizer
        self._reasoning, self._content, self._logged = "", "", 0

    def update(self) -> Update | None:
        """What is new since the last time; None where nothing is."""
        reader, row = self.row.reader, self.row
        assert reader is not None
        finish: str | None = row.finish
        reasoning = reader.reasoning()[len(self._reasoning) :]
        self._reasoning += reasoning
        shown = reader.answer()
        stop = min((shown.find(string) for string in self._stops if string in shown), default=-1)
        refusal = _refusal(row) if finish and row.malformed and stop < 0 else None
        if stop >= 0:
            shown, finish = shown[:stop], "stop"
        elif not finish:
            # A refused response has no answer, so that none is shown before it is complete.
            shown = "" if row.request.on_leaving == "refuse" else self._without_beginning_of_a_stop(shown)
        elif refusal:
            shown = self._content
        content = shown[len(self._content) :]
        self._content += content
        logprobs = self._new_logprobs(last=finish is not None) if row.request.top is not None else ()
        if not (reasoning or content or logprobs or finish):
            return None
        tokens = len(row.chosen)
        return Update(self._index, reasoning, content, logprobs, finish, refusal, row.repairs, tokens)

    def _without_beginning_of_a_stop(self, text: str) -> str:
        """The text without an end that may become one of the stop strings."""
        held = 0
        for string in self._stops:
            for size in range(len(string) - 1, held, -1):
                if text.endswith(string[:size]):
                    held = size
                    break
        return text[: len(text) - held]

    def _new_logprobs(self, *, last: bool) -> tuple[dict[str, Any], ...]:
        """Those of the tokens that the shown answer is made of, each once."""
        span = self.row.reader.answer_span() if self.row.reader else None
        if span is None or not self._content:
            return ()
        text = self.row.text[span[0] : span[1]]
        begin = span[0] + len(text) - len(text.lstrip())
        end = begin + len(self._content)
        ends, new = self.row.ends, []
        for place in range(self._logged, len(ends)):
            start = ends[place - 1] if place else 0
            if ends[place] > end and not (last and start < end):
                break
            self._logged = place + 1
            if ends[place] > begin:
                new.append(self._logprob(self.row.chosen[place]))
        return tuple(new)

    def _logprob(self, chosen: Chosen) -> dict[str, Any]:
        top = [self._token(token, log) for token, log in chosen.top]
        return {**self._token(chosen.token, chosen.logprob), "top_logprobs": top}

    def _token(self, token: int, logprob: float) -> dict[str, Any]:
        text = str(self._tokenizer.decode([token]))
        known = None if "\ufffd" in text else list(text.encode())
        return {"token": text, "logprob": max(logprob, -9999.0), "bytes": known}


def _refusal(row: LiveRow) -> str:
    """Why a response is not given, by the names of its defects."""
    request = row.request
    assert request.form is not None
    assert row.reader is not None
    response = request.form.grammar.parse(
        row.text, prefilled=request.prompt.prefilled, finished=row.finish == "stop"
    )
    complete = row.reader.part is Part.done
    defects = ", ".join(request.form.defects(response)) or ("unknown" if complete else "incomplete")
    return f"The model's response did not keep its form ({defects})."
