"""The reward `judge`: a language model says which criteria of a rubric a response meets."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from grandrounds.errors import RewardError
from grandrounds.rewards.judging.endpoint import Endpoint
from grandrounds.rewards.judging.kept import FOLDER, Answers, Budget
from grandrounds.rewards.judging.question import (
    Finding,
    Messages,
    Unreadable,
    as_reply,
    asked_again,
    messages_of,
    read_reply,
)
from grandrounds.rewards.judging.rubric import Rubric, read_rubric, rubric_of_column, score_of
from grandrounds.rewards.scorer import RewardContext, Score
from grandrounds.types import Case, Sample


@dataclass(frozen=True)
class Judge:
    """Points met of points possible. rubric: one for all cases, or the column that holds each case's.

    The note lists the criteria with what the judge says of each. A case whose column is empty has no score.
    """

    rubric: Rubric | str
    endpoint: Endpoint
    answers: Answers
    budget: Budget
    concurrency: int

    def __call__(self, sample: Sample) -> Score:
        """The score of one sample."""
        return self.scores([sample])[0]

    def scores(self, samples: Sequence[Sample]) -> list[Score]:
        """The scores of a group, several at a time. Samples with the same text are asked about once."""
        rubrics = [self.rubric_of(sample.case) for sample in samples]
        found = self.findings(
            [
                (sample.case, sample.text, rubric)
                for sample, rubric in zip(samples, rubrics, strict=True)
                if rubric is not None
            ]
        )
        made = iter(found)
        return [Score(None) if rubric is None else _scored(rubric, next(made)) for rubric in rubrics]

    def rubric_of(self, case: Case) -> Rubric | None:
        """The rubric for a case, None where it has none."""
        return rubric_of_column(case, self.rubric) if isinstance(self.rubric, str) else self.rubric

    def findings(self, asked: Sequence[tuple[Case, str, Rubric]]) -> list[tuple[Finding, ...]]:
        """What the judge finds for each case, response and rubric. RewardError where it cannot be had."""
        chats = [messages_of(*one) for one in asked]
        keys = [self.answers.key([self.endpoint.url, self.endpoint.model, chat]) for chat in chats]
        once = {
            key: (case, chat, len(rubric))
            for key, chat, (case, _, rubric) in zip(keys, chats, asked, strict=True)
        }
        with ThreadPoolExecutor(self.concurrency) as pool:
            waiting = {key: pool.submit(self._answer, key, *one) for key, one in once.items()}
            done, _ = wait(waiting.values(), return_when=FIRST_EXCEPTION)
            pool.shutdown(wait=False, cancel_futures=True)  # after a failure, nothing further is asked
            for future in done:
                future.result()  # raises it
        return [waiting[key].result() for key in keys]

    def _answer(self, key: str, case: Case, chat: Messages, count: int) -> tuple[Finding, ...]:
        if (kept := self.answers.get(key)) is not None:
            try:
                return read_reply(kept, count)
            except Unreadable:  # a damaged file
                pass
        try:
            found = self._asked(chat, count)
        except RewardError as error:
            where = ", ".join(filter(None, (error.where, f"case {case.id}")))
            raise RewardError(error.what, where=where, hint=error.hint) from None
        self.answers.put(key, as_reply(found))
        return found

    def _asked(self, chat: Messages, count: int) -> tuple[Finding, ...]:
        """Ask, and once more where the reply cannot be read."""
        try:
            return read_reply(self.endpoint.complete(chat, self.budget.spend), count)
        except Unreadable as error:
            chat = asked_again(chat, error, count)
        try:
            return read_reply(self.endpoint.complete(chat, self.budget.spend), count)
        except Unreadable as error:
            raise RewardError(
                f"the judge's reply could not be read, twice: {error}",
                hint="Choose a model that follows the form, turn its thinking off, or shorten the rubric.",
            ) from None


def _scored(rubric: Rubric, findings: Sequence[Finding]) -> Score:
    note = [
        {"criterion": one.text, "points": one.points, "met": finding.met, "why": finding.why}
        for one, finding in zip(rubric, findings, strict=True)
    ]
    return Score(score_of(rubric, [finding.met for finding in findings]), note)


def judge(
    context: RewardContext,
    *,
    url: str = "",
    model: str = "",
    rubric: Any = None,
    api_key_env: str | None = None,
    budget: int | None = None,
    concurrency: int = 8,
) -> Judge:
    """The share of the rubric's points that a response earns, by a model behind an OpenAI-compatible endpoint.

    rubric: criteria with points, or the name of the column that holds them. budget: most calls of the run, retries
    included. concurrency: calls at the same time.
    """
    for name, value in (("url", url), ("model", model), ("rubric", rubric)):
        if not value or (name != "rubric" and not isinstance(value, str)):
            raise RewardError(
                f"the judge has no `{name}`",
                where=f"options.{name}",
                hint="It needs url, model and rubric; nothing is sent to a place that the recipe does not name.",
            )
    for name, number in (("budget", budget), ("concurrency", concurrency)):
        if number is not None and (type(number) is not int or number < 1):
            raise RewardError(
                f"`{name}` is {number!r}", where=f"options.{name}", hint="It should be 1 or more."
            )
    endpoint = Endpoint(url, model, api_key_env, context.timeout_seconds, context.retries)
    endpoint.check()
    return Judge(
        rubric if isinstance(rubric, str) else read_rubric(rubric, "options.rubric"),
        endpoint,
        Answers(context.base / FOLDER),
        Budget(context.name, budget, context.run),
        concurrency,
    )
