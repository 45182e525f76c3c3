"""The reward `math`: 1 where the answer is mathematically equal to the gold answer, else 0."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from grandrounds.domains.mathematics.equivalence import NO_GOLD
from grandrounds.domains.mathematics.expressions import result_of, same_text
from grandrounds.errors import RewardError
from grandrounds.rewards.scorer import RewardContext, Score
from grandrounds.rewards.workers.client import AVAILABLE, Failed, Worker
from grandrounds.types import Sample

FUNCTION = "grandrounds.domains.mathematics.equivalence:equal"
MEMORY_GB = 2.0


class MathReward:
    """Compares in a process of its own. An answer that cannot be compared in time is not right, and the note says so.

    Whether it was the answer's fault is found out: the gold answer is then compared with itself, and where that fails
    too, it is an error.
    """

    def __init__(self, worker: Worker, seconds: float, patient: float) -> None:
        """patient: seconds for a process that has just started, and imports the library first."""
        self._worker, self._seconds, self._patient = worker, seconds, patient
        self._warm = False

    def __call__(self, sample: Sample) -> Score:
        """The score of one sample."""
        return self.scores([sample])[0]

    def scores(self, samples: Sequence[Sample]) -> list[Score]:
        """The scores of a group; equal answers are compared once."""
        found: dict[tuple[str, str | None], Score] = {}
        for sample in samples:
            asked = (sample.case.gold.text, sample.response.answer)
            if asked not in found:
                found[asked] = self._score(sample)
        return [found[sample.case.gold.text, sample.response.answer] for sample in samples]

    def _score(self, sample: Sample) -> Score:
        if sample.case.gold.kind == "none":
            return Score(None)
        gold = result_of(sample.case.gold.text)
        if gold is None:
            return Score(None, NO_GOLD)
        if not sample.response.answer:
            return Score(0.0, "no answer")
        answer = result_of(sample.response.answer)
        if answer is None:
            return Score(0.0, "not one result")
        if same_text(answer, gold):
            return Score(1.0, "the same text")
        if not self._warm:
            self._with_itself(gold, sample)
        try:
            return self._compared(answer, gold, self._seconds)
        except Failed as error:
            self._warm = False
            self._with_itself(gold, sample)
            return Score(0.0, f"could not be compared: {error}")

    def _with_itself(self, gold: str, sample: Sample) -> None:
        """Compare the gold answer with itself, which also loads the library. RewardError where that fails."""
        try:
            self._compared(gold, gold, self._patient)
        except Failed as error:
            raise RewardError(
                f"the gold answer `{gold}` cannot be compared with itself: {error}",
                where=f"case {sample.case.id}",
                hint="Simplify it, or leave the case out.",
            ) from error
        self._warm = True

    def _compared(self, answer: str, gold: str, seconds: float) -> Score:
        arguments = {"answers": [answer], "gold": gold, "log_extra": None}
        reply = self._worker.call((), arguments, 1, seconds)
        return Score(reply["values"][0], reply["extras"]["why"][0])


def make_math(context: RewardContext, seconds: float) -> MathReward:
    """RewardError where the library is missing, or processes cannot be forked."""
    if find_spec("math_verify") is None:
        raise RewardError(
            "the library math-verify is not installed",
            where="math",
            hint="Install it: pip install 'grandrounds[math]'.",
        )
    if not AVAILABLE:
        raise RewardError(
            "it needs a process that can be killed, which this system does not fork",
            where="math",
            hint="Use `accuracy`, or run on Linux or macOS.",
        )
    worker = Worker(f"rewards.{context.name}", FUNCTION, {}, context.base, MEMORY_GB)
    return MathReward(worker, seconds, max(seconds, context.timeout_seconds))
