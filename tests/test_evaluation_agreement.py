"""Agreement of a judge with people: the numbers, the labels' form, and the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from judge_support import Endpoint, by_words, endpoint
from rich.console import Console
from typer.testing import CliRunner

from grandrounds.cases.read import Row
from grandrounds.cli.app import app
from grandrounds.errors import CaseError, GrandRoundsError
from grandrounds.evaluation.agreement import Agreement, Share, kappa, read_labels
from grandrounds.evaluation.statistics import wilson
from grandrounds.report.agreement_table import print_agreement
from grandrounds.rewards.judging.rubric import read_rubric

RUBRIC = [{"criterion": "rest", "points": 6}, {"criterion": "water", "points": 4}]


def ask(server: Endpoint, folder: Path, labels: list[dict[str, Any]], *further: str, **rewards: Any) -> Any:
    options = {"url": server.url, "model": "m", "rubric": RUBRIC}
    recipe = {"rewards": rewards or {"judge": {"options": options}, "format": {"gate": True}}}
    cases = [
        {"id": "c1", "question": "What now?", "answer": "rest"},
        {"id": "c2", "question": "?", "answer": "x"},
    ]
    (folder / "cases.jsonl").write_text("\n".join(map(json.dumps, cases)))
    (folder / "recipe.yaml").write_text(yaml.safe_dump({**recipe, "cases": {"source": "cases.jsonl"}}))
    (folder / "labels.jsonl").write_text("\n".join(map(json.dumps, labels)))
    return CliRunner().invoke(
        app, ["rewards", "agreement", "recipe.yaml", "--labels", "labels.jsonl", *further]
    )


def test_agreement_counts_verdicts_and_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    labels = [
        {"question": "What now?", "response": "rest", "met": [True, False]},
        {"case": "c1", "response": "rest", "met": [True, True]},
        {"question": "What now?", "response": "water", "met": [False, True]},
        {"question": "What now?", "response": "nothing", "points": 5},
    ]
    with endpoint(by_words) as server:
        shown = ask(server, tmp_path, labels, "--json")
        found = json.loads(shown.stdout)
        again = ask(server, tmp_path, labels)
    assert len(server.asked) == 4  # the second command found the answers of the first
    assert server.data(1)["question"] == "What now?"
    assert {one["criterion"]: one["accuracy"] for one in found["criteria"]} == {"rest": 1.0, "water": 2 / 3}
    assert (found["verdicts"]["agreed"], found["verdicts"]["count"]) == (5, 6)
    assert (found["verdicts"]["low"], found["verdicts"]["high"]) == pytest.approx(wilson(5, 6))
    assert found["score_difference"] == pytest.approx((0 + 0.4 + 0 + 0.5) / 4)
    assert "Kappa" in again.stdout
    assert "differ by 0.225" in again.stdout


def test_a_criterion_is_shown_as_it_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    share = Share("names [bold]rest[/bold]", 2, 1, 0.5, 0.1, 0.9, None)
    print_agreement(Console(width=120), Agreement(2, (share,), share, 0.1))
    assert "names [bold]rest[/bold]" in capsys.readouterr().out


def test_kappa_is_agreement_beyond_chance() -> None:
    pairs = [(True, True)] * 20 + [(True, False)] * 5 + [(False, True)] * 10 + [(False, False)] * 15
    assert kappa(pairs) == pytest.approx(0.4)  # observed 0.7, by chance 0.5
    assert kappa([(True, False), (False, True)]) == -1
    assert kappa([(True, True)] * 9) is None


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"question": "?", "met": [True, True]}, "no text in `response`"),
        ({"response": "r", "met": [True, True]}, "neither `case` nor a text in `question`"),
        ({"case": "z", "response": "r", "met": [True, True]}, "none with the id `z`"),
        ({"question": "?", "response": "r"}, "neither `met` nor a number in `points`"),
        ({"question": "?", "response": "r", "points": True}, "neither `met` nor a number"),
        ({"question": "?", "response": "r", "met": [1, 0]}, "no list of true and false"),
        ({"question": "?", "response": "r", "met": [True]}, "1 verdicts for 2 criteria"),
    ],
)
def test_a_row_that_is_no_label_is_named(row: dict[str, Any], said: str) -> None:
    rubric = read_rubric(RUBRIC, "")
    with pytest.raises(CaseError, match=f"labels.jsonl:7: .*{said}"):
        read_labels([Row(row, "labels.jsonl:7")], {}, lambda case: rubric)


@pytest.mark.parametrize("count", [0, 2])
def test_a_recipe_without_exactly_one_judge_is_refused(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    label = {"question": "?", "response": "r", "points": 1}
    with endpoint(by_words) as server:
        judge = {"use": "judge", "options": {"url": server.url, "model": "m", "rubric": RUBRIC}}
        judges = {f"judge{i}": judge for i in range(count)}
        shown = ask(server, tmp_path, [label], accuracy={}, **judges)
    assert isinstance(shown.exception, GrandRoundsError)
    assert "judge" in shown.exception.what
