"""The reward `unit_tests`: runs the program in the answer against the case's tests, in a sandbox."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from grandrounds.domains.code.calls import CallTests, causes_by_calls
from grandrounds.domains.code.runtimes import Limits, Runtime, find_runtime
from grandrounds.domains.code.sandbox import run
from grandrounds.domains.code.task import InputTests, same_output, task_of
from grandrounds.rewards.scorer import Score
from grandrounds.types import Sample

# Programs of several samples at a time. Each may run two processes that wait for each other.
AT_ONCE = max(1, (os.cpu_count() or 1) // 2)


@dataclass(frozen=True)
class UnitTests:
    """1 where all tests pass, else 0; with `partial` the share of those that pass. The note says what failed.

    A case without tests has no score. A response without an answer passes none.
    """

    runtime: Runtime
    limits: Limits
    partial: bool

    def __call__(self, sample: Sample) -> Score:
        """The score of one sample."""
        task = task_of(sample.case)
        if task is None:
            return Score(None)
        if not sample.response.answer:
            return Score(0.0, "no answer")
        program, tests = task.program(sample.response.answer), task.tests
        count = len(tests.tests if isinstance(tests, CallTests) else tests.pairs)
        if isinstance(tests, InputTests):
            causes = self._by_input(program, tests)
        else:
            causes = causes_by_calls(self.runtime, program, tests, self.limits, every=self.partial)
        passed = causes.count("")
        failures = [cause for cause in causes if cause]
        score = passed / count if self.partial else float(passed == count)
        return Score(
            score, f"{passed} of {count} passed; {failures[0]}" if failures else f"all {count} passed"
        )

    def scores(self, samples: Sequence[Sample]) -> list[Score]:
        """The scores of a group, several at a time."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(self, samples))

    def _by_input(self, program: str, tests: InputTests) -> list[str]:
        """The cause of failure of each test, "" where it passed; up to the first failure, unless all count."""
        causes: list[str] = []
        for given, expected in tests.pairs:
            outcome = run(self.runtime, program, given.encode(), self.limits)
            printed = outcome.stdout.decode("utf-8", "replace")
            wrong = "" if same_output(printed, expected) else f"printed {printed.strip()!r:.80}"
            causes.append(outcome.cause or wrong)
            if causes[-1] and not self.partial:
                break
        return causes


def make_unit_tests(partial: bool, sandbox: str, seconds: float, memory_mb: int, image: str) -> UnitTests:
    """RewardError where there is no sandbox here."""
    runtime = find_runtime(sandbox, image)
    if sandbox == "unsafe":
        warnings.warn(
            "Programs that the model writes run without a sandbox (sandbox: unsafe): they read your files and reach "
            "the network.",
            stacklevel=2,
        )
    return UnitTests(runtime, Limits(seconds=seconds, memory_mb=memory_mb), partial)
