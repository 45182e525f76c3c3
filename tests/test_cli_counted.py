"""What is counted is told on stderr: one bar in a terminal, few lines in a pipe."""

from __future__ import annotations

import re

import pytest

from grandrounds.cli.progress import counted
from grandrounds.evaluation.progress import part


def test_a_pipe_gets_a_line_at_once_and_one_for_every_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    with counted("Evaluating") as progress:
        for done in range(1, 101):
            progress(done, 100)
    said = capsys.readouterr()
    assert said.out == ""
    first, *lines = said.err.splitlines()
    assert first == "Evaluating …"
    assert [line.partition(",")[0] for line in lines] == [
        f"Evaluating: {tenth}0 of 100 ({tenth}0 %)" for tenth in range(1, 11)
    ]
    assert all(re.search(r", (about )?\d+ s left$", line) for line in lines[:-1])
    assert lines[-1] == "Evaluating: 100 of 100 (100 %)"


def test_a_few_long_cases_are_counted_one_by_one_and_the_first_is_timed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    with counted("Evaluating") as progress:
        clock[0] += 60  # a model is loaded
        for done in range(4):
            progress(done, 3)
            clock[0] += 10
    assert capsys.readouterr().err.splitlines() == [
        "Evaluating …",
        "Evaluating: 1 of 3 (33 %), about 20 s left",
        "Evaluating: 2 of 3 (67 %), 10 s left",
        "Evaluating: 3 of 3 (100 %)",
    ]


def test_parts_count_to_the_whole() -> None:
    told: list[tuple[int, int]] = []

    def whole(done: int, total: int) -> None:
        told.append((done, total))

    first, second = part(whole, 0, 30, 100), part(whole, 30, 70, 100)
    assert first is not None
    assert second is not None
    first(5, 5)
    second(1, 2)
    second(2, 2)
    assert told == [(30, 100), (65, 100), (100, 100)]
    assert part(None, 0, 30, 100) is None
