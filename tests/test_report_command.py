"""The report of real runs, made by the command and by the API, and what it says to wrong inputs."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from html_support import Page
from test_training_changes import SCRATCH, SILENT
from typer.testing import CliRunner

from grandrounds import compare, report_run
from grandrounds.cli.app import app
from grandrounds.errors import CaseError, PolicyError, RunError
from grandrounds.recipe import Recipe
from grandrounds.recipe_file import recipe_from
from grandrounds.shares import percent
from grandrounds.training.folder import RunFolder
from grandrounds.training.run import resume, train


def write_cases(path: Path, count: int = 40) -> Path:
    words = ("gout", "sepsis", "mumps", "croup")
    with path.open("w", encoding="utf-8") as file:
        for i in range(count):
            options = {"ABCD"[k]: words[(i + k) % 4] for k in range(4)}
            row = {
                "id": str(i),
                "question": f"Finding {i}, {words[i % 4]}. Which?",
                "options": options,
                "answer": "A",
            }
            file.write(json.dumps({**row, "tags": {"sex": "man" if i % 2 else "woman"}}) + "\n")
    return path


def recipe(source: Path | str, **sections: object) -> Recipe:
    return recipe_from(
        {
            "name": "tiny",
            "rounds": 2,
            "prompt": {"system": ""},
            "cases": {"source": str(source), "test_fraction": 0.3},
            "policy": {"scratch": SCRATCH},
            "grpo": {"group_size": 2, "cases_per_round": 2, "max_new_tokens": 12},
            "evaluation": {"every": 1, "cases": 3},
            "rewards": {"accuracy": {}, "format": {"weight": 0.2}},
            **sections,
        }
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with cases, a run on them, and one with another seed, which means another split."""
    folder = tmp_path_factory.mktemp("place")
    source = write_cases(folder / "cases.jsonl")
    train(recipe(source), folder / "run", progress=SILENT)
    train(recipe(source, seed=1, rounds=0), folder / "other", progress=SILENT)
    return folder


@pytest.fixture(scope="module")
def page(place: Path) -> Page:
    path = report_run(place / "run", compare=[f"other={place / 'other'}"], trials=4, samples=2)
    assert path == place / "run" / "report.html"
    return Page(path.read_text(encoding="utf-8"))


def test_policies_stand_side_by_side_with_the_runs_own_cold_start(place: Path, page: Page) -> None:
    assert "other, untouched and run on the same" in page.text
    policies = {
        "other": place / "other",
        "untouched": place / "run/checkpoints/000000",
        "run": place / "run",
    }
    # The run builds the cases: it comes first among the runs.
    again = compare({"run": policies["run"], **policies}, str(place / "cases.jsonl"))
    for name in policies:
        assert f"{name} {percent(again.evaluations[name].accuracy.value)}" in re.sub(
            r"0 25 50 75 100", "", page.text
        )


def test_one_count_goes_over_all_policies_and_trials(place: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    report_run(
        place / "run",
        tmp_path / "report.html",
        limit=4,
        trials=2,
        samples=2,
        progress=lambda done, total: told.append((done, total)),
    )
    done = [count for count, _ in told]
    # The run and its cold start: 4 cases once; 2 cases twice, and in the trials of faithfulness and robustness.
    assert {total for _, total in told} == {2 * (4 + 2 * (2 + 6 + 4))}
    assert done == sorted(done)
    assert done[-1] == told[-1][1]


def test_the_split_is_the_one_that_the_run_recorded(place: Path, page: Page) -> None:
    recorded = RunFolder.open(place / "run").split()
    for part in ("train", "held_out"):
        assert (
            f"{recorded[part]['cases']}; SHA-256 {recorded[part]['sha256']} (when the run began)" in page.text
        )
    assert page.text.count("built again for this report: the same") == 2
    assert RunFolder.open(place / "run").environment()["data"]["cases.jsonl"] in page.text


def test_a_policy_that_was_trained_on_the_evaluated_cases_is_named(place: Path, page: Page) -> None:
    held_out = RunFolder.open(place / "run").split()["held_out"]["cases"]
    found = re.search(rf"other was trained on copies of (\d+) of the {held_out} evaluated cases", page.text)
    assert found
    assert int(found[1]) > 0
    assert "run was trained on copies" not in page.text.replace("other was trained on copies", "")


def test_everything_was_measured(page: Page) -> None:
    assert page.open == []
    assert "Not run" not in page.text
    assert "4 cases (drawn by lot) were answered 2 times each" in page.text
    assert (
        "Options in another order The right one under another letter; a robust answer stays. 4 cases"
        in page.text
    )
    assert "By sex Accuracy by sex" in page.text


def test_the_command_writes_the_report_where_it_is_told(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "page.html"
    done = CliRunner().invoke(
        app, ["report", f"mine={place / 'run'}", "--trials", "0", "--limit", "5", "--out", str(out)]
    )
    assert done.exit_code == 0, done.output
    text = Page(out.read_text(encoding="utf-8")).text
    assert "untouched and mine on the same 5 cases" in text
    assert text.count("Not run: they were left out (no trials were asked for)") == 2


def test_the_logs_alone_need_neither_cases_nor_weights(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "run", tmp_path / "run")
    shutil.rmtree(tmp_path / "run/checkpoints")
    done = CliRunner().invoke(app, ["report", str(tmp_path / "run"), "--logs-only"])
    assert done.exit_code == 0, done.output
    text = Page((tmp_path / "run/report.html").read_text(encoding="utf-8")).text
    assert "Not run: the report was made from the logs alone" in text
    refused = CliRunner().invoke(app, ["report", str(tmp_path / "run"), "--logs-only", "--compare", "x"])
    assert refused.exit_code == 2
    without = report_run(tmp_path / "run", tmp_path / "without.html")
    assert "Not run: the run has no checkpoint yet" in Page(without.read_text(encoding="utf-8")).text


def test_an_unfinished_run_and_a_resumed_one_say_so(place: Path, tmp_path: Path) -> None:
    def stop(done: object) -> bool:
        return True

    begun = train(recipe(place / "cases.jsonl"), tmp_path / "run", callbacks=[stop], progress=SILENT)
    assert not begun.finished
    text = Page(report_run(begun.folder, trials=0, limit=3).read_text(encoding="utf-8")).text
    assert "This run has not come to its end: 1 of 2 rounds are done." in text
    resume(begun.folder, ["rounds=3"], progress=SILENT)
    text = Page(report_run(begun.folder, trials=0, limit=3).read_text(encoding="utf-8")).text
    assert "has not come to its end" not in text
    assert "Changed after round 1 rounds: 2 → 3" in text
    assert "Checkpoint reported on 000003" in text


def test_cases_that_were_objects_are_asked_for(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in write_cases(tmp_path / "cases.jsonl").read_text().splitlines()]
    made = train(recipe("x.jsonl", rounds=0), tmp_path / "run", cases=rows, progress=SILENT)
    text = Page(report_run(made.folder).read_text(encoding="utf-8")).text
    assert "Not run: the run's cases were Python objects" in text
    other = report_run(made.folder, cases=tmp_path / "cases.jsonl", trials=0, limit=4)
    text = Page(other.read_text(encoding="utf-8")).text
    assert "which is not the run's own source" in text
    assert "What run was trained on is not known here" in text


def test_other_cases_are_named_and_looked_up_in_the_training_cases(place: Path, tmp_path: Path) -> None:
    source = write_cases(tmp_path / "more.jsonl", 10)
    text = Page(
        report_run(place / "run", tmp_path / "r.html", cases=source, trials=0).read_text(encoding="utf-8")
    ).text
    assert f"10 cases (all there are), of {source}, which is not the run's own source" in text
    assert re.search(r"run was trained on copies of \d+ of the 10 evaluated cases", text)


def test_what_is_no_run_is_refused(place: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="there is no run here"):
        report_run(tmp_path)
    with pytest.raises(RunError, match="no such folder"):
        report_run(tmp_path / "absent")
    with pytest.raises(PolicyError, match="no such folder"):
        report_run(place / "run", tmp_path / "r.html", compare=[str(tmp_path / "absent")])
    with pytest.raises(CaseError):
        report_run(place / "run", tmp_path / "r.html", cases=tmp_path / "absent.jsonl")
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="cannot be written"):
        report_run(place / "run", tmp_path / "file" / "r.html", logs_only=True)
    assert not (tmp_path / "r.html").exists()


def test_a_file_of_cases_that_is_no_longer_the_runs_own_is_refused(place: Path, tmp_path: Path) -> None:
    source = write_cases(tmp_path / "cases.jsonl")
    made = train(recipe(source, rounds=0), tmp_path / "run", progress=SILENT)
    write_cases(source, 30)
    with pytest.raises(RunError, match=r"cases\.jsonl is not the file this run began with"):
        report_run(made.folder)
    report_run(made.folder, logs_only=True)
