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
    assert [line.partition(",")[0] for line in lines] == [f"Evaluating: {tenth}0 %" for tenth in range(1, 11)]
    assert all(re.search(r", (about )?\d+ s left$", line) for line in lines[:-1])
    assert lines[-1] == "Evaluating: 100 %"


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
