"""What watches over a run: guard, progress and Ctrl-C."""

from __future__ import annotations

import io
import math
import os
import re
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from grandrounds.cli.progress import Panel, run_progress, sparkline
from grandrounds.errors import RunError
from grandrounds.recipe import Recipe
from grandrounds.recipe_file import recipe_from, with_overrides
from grandrounds.recipe_guard import GuardRecipe
from grandrounds.sampling.native import NativeSampler
from grandrounds.training.folder import RunFolder
from grandrounds.training.guard import Guard
from grandrounds.training.interrupt import interruptible
from grandrounds.training.progress import PlainProgress, SilentProgress
from grandrounds.training.run import resume, train
from grandrounds.training.whole import duration
from grandrounds.types import Group

HEALTHY = {
    "reward": 0.5,
    "accuracy": 0.5,
    "format_rate": 0.9,
    "answer_rate": 0.95,
    "frac_reward_zero_std": 0.3,
    "completions/clipped_ratio": 0.02,
    "completions/mean_length": 112.4,
    "rewards/accuracy/mean": 0.5,
    "rewards/a_reward_with_a_rather_long_name/mean": 0.1,
    "loss": 0.01,
    "grad_norm": 0.8,
    "entropy": 0.4,
    "kl": 0.002,
    "tokens_per_second": 1520.0,
}


def row(number: int, **changes: float | None) -> dict:
    renamed = {"clipped": "completions/clipped_ratio", "silent": "frac_reward_zero_std"}
    return {**HEALTHY, "round": number, **{renamed.get(key, key): value for key, value in changes.items()}}


HOPELESS = [
    ({"clipped": 0.97}, "97.0 % of the completions are cut off", "grpo.max_new_tokens"),
    ({"format_rate": 0.0, "answer_rate": 0.0}, "no completion has an answer", "sft.steps"),
    ({"silent": 1.0, "accuracy": 0.0}, "the same reward", "grpo.group_size"),
    ({"silent": 1.0, "accuracy": 1.0}, "the same reward", "solves these cases"),
    # Everything at once is told by its cause.
    ({"clipped": 1.0, "format_rate": 0.0, "answer_rate": 0.0, "silent": 1.0}, "cut off", "max_new_tokens"),
]


@pytest.mark.parametrize(("changes", "what", "hint"), HOPELESS)
def test_a_hopeless_run_stops_after_patience_with_a_diagnosis(changes: dict, what: str, hint: str) -> None:
    guard = Guard(GuardRecipe(patience=3))
    for number in (1, 2):
        guard.check(row(number, **changes))
    with pytest.raises(RunError, match=what) as caught:
        guard.check(row(3, **changes))
    assert hint in caught.value.hint
    assert caught.value.where == "round 3, and the 2 before it"


@pytest.mark.parametrize(("changes", "what", "hint"), HOPELESS)
def test_one_good_round_gives_new_patience(changes: dict, what: str, hint: str) -> None:
    guard = Guard(GuardRecipe(patience=3))
    for number in range(1, 30):
        guard.check(row(number, **({} if number % 3 == 0 else changes)))


def test_a_resumed_guard_judges_as_an_uninterrupted_one() -> None:
    guard = Guard(GuardRecipe(patience=3), [row(number, clipped=1.0) for number in (1, 2)])
    with pytest.raises(RunError, match="cut off"):
        guard.check(row(3, clipped=1.0))


@pytest.mark.parametrize("key", ["loss", "grad_norm"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_stops_at_once(key: str, value: float) -> None:
    with pytest.raises(RunError, match=key) as caught:
        Guard(GuardRecipe()).check(row(1, **{key: value}))
    assert "grpo.learning_rate" in caught.value.hint


@pytest.mark.parametrize("key", ["loss", "grad_norm"])
def test_an_exploding_update_stops_but_a_single_spike_does_not(key: str) -> None:
    guard = Guard(GuardRecipe(patience=3))
    for number in range(1, 20):
        guard.check(row(number, **{key: 5000.0 if number == 10 else 0.5}))
    for number in (20, 21):
        guard.check(row(number, **{key: 5000.0}))
    with pytest.raises(RunError, match="explodes"):
        guard.check(row(22, **{key: 5000.0}))


def test_a_small_gradient_that_grows_again_is_no_explosion() -> None:
    guard = Guard(GuardRecipe(patience=1))
    for number in range(1, 20):
        guard.check(row(number, grad_norm=1e-6))
    guard.check(row(20, grad_norm=1.0))


def test_a_guard_switched_off_says_nothing() -> None:
    Guard(GuardRecipe(enabled=False, patience=1)).check(row(1, clipped=1.0, loss=math.nan))


def console(width: int, *, terminal: bool) -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, width=width, force_terminal=terminal, highlight=False, color_system=None), out


def test_plain_progress_is_one_line_per_round(capsys: pytest.CaptureFixture) -> None:
    progress = run_progress(console(60, terminal=False)[0])
    assert type(progress) is PlainProgress
    with progress:
        progress.note("Policy: 2.1M weights [on the CPU]")
        progress.planned(recipe_from({"rounds": 3, "sft": {"steps": 1}}), 0, 0, {})
        progress.doing("sampling")
        progress.warmup(1, 1, {"loss": 2.5})
        for number in (1, 2, 3):
            progress.round(number, 3, row(number))
        progress.finished("Done.")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Policy: 2.1M weights [on the CPU]"
    assert lines[1] == "warm-up 1/1  loss 2.5"
    assert [line.partition("  ")[0] for line in lines[2:5]] == ["round 1/3", "round 2/3", "round 3/3"]
    for part in ("reward 0.5 (accuracy 0.5", "accuracy 50.0 %", "cut off 2.0 %", "1,520", "no signal 30.0 %"):
        assert part in lines[3]
    assert [line.endswith(" left") for line in lines[2:5]] == [True, True, False]
    assert "  about " in lines[2]
    assert lines[5] == "Done."


def test_plain_progress_of_a_long_run_stays_readable(capsys: pytest.CaptureFixture) -> None:
    progress = PlainProgress()
    for step in range(1, 3001):
        progress.warmup(step, 3000, {"loss": 1.0})
    for number in range(1, 5001):
        progress.round(number, 5000, row(number))
    lines = capsys.readouterr().out.splitlines()
    assert 100 < len(lines) < 250
    assert lines[-1].startswith("round 5000/5000")


@pytest.mark.parametrize("width", [60, 80, 140])
def test_the_panel_fits_its_terminal_and_shows_everything(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(10_000))
    monkeypatch.setattr("grandrounds.training.whole.time.monotonic", lambda: float(next(clock)))
    target, out = console(width, terminal=True)
    progress = run_progress(target)
    assert type(progress) is Panel
    with progress:
        progress.planned(recipe_from({"rounds": 120, "sft": {"steps": 10}}), 2, 0, {})
        progress.warmup(3, 10, {"loss": 1.25, "learning_rate": 1e-3})
        for number in range(1, 50):
            progress.round(number, 120, row(number, reward=number / 50))
        progress.note("Since the run began: torch [2.12]. Numbers may differ.")
    shown = out.getvalue()
    for part in ("round 49/120", "45 %", "reward", "accuracy", "cut off", "KL", "entropy", "1,520", "left"):
        assert part in shown
    assert "torch [2.12]. Numbers may differ." in shown
    assert "warm-up" not in shown[shown.rindex("round") :]
    assert "▁" in shown
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown).replace("\r", "\n").splitlines()
    assert max(len(line) for line in lines if "Since" not in line) <= width


def test_a_panel_shows_one_bar_over_the_whole_and_what_is_done_now() -> None:
    target, out = console(60, terminal=True)

    def drawn() -> list[str]:
        before = len(out.getvalue())
        progress._live.refresh()
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue()[before:]).replace("\r", "")
        return [line.rstrip() for line in text.splitlines() if line.strip()]

    with Panel(target) as progress:
        assert drawn() == ["Preparing …"]
        progress.doing("loading the model")
        assert drawn() == ["Loading the model …"]
        progress.planned(recipe_from({"rounds": 4, "sft": {"steps": 2}}), 0, 0, {})
        assert drawn()[0].startswith("warm-up 0/2 ")
        progress.warmup(1, 2, {"loss": 1.0})
        assert drawn()[0].endswith(", then rounds")
        progress.warmup(2, 2, {"loss": 1.0})
        progress.doing("sampling: 8 of 16 completions")
        assert drawn()[0].startswith("round 0/4 ")
        assert drawn()[1] == "Sampling: 8 of 16 completions …"
        progress.round(1, 4, row(1))
        assert re.match(r"round 1/4 \S+ +\d+ % about .* left$", drawn()[0])
        assert "completions …" not in out.getvalue()[out.getvalue().rindex("round 1/4") :]


def test_a_panel_says_that_the_run_is_stopping_until_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """Written beside the panel, it would be drawn over within a quarter of a second."""
    target, out = console(60, terminal=True)
    with Panel(target) as progress:
        progress.round(1, 3, row(1, reward=0.5))
        progress.stopping()
        progress.round(2, 3, row(2, reward=0.5))
        progress._live.refresh()
        drawn = out.getvalue()
        assert "again to stop at once" in " ".join(drawn[drawn.rindex("round 2/3") :].split())
        progress.finished("Stopped and saved.")
    last = out.getvalue()[len(drawn) :]
    assert "again to stop" not in last
    assert "Stopped and saved." in last


def test_progress_survives_rows_that_lack_things() -> None:
    for progress in (PlainProgress(), Panel(console(60, terminal=True)[0]), SilentProgress()):
        with progress:
            progress.round(1, 2, {"round": 1})
            progress.round(2, 2, {"round": 2, "reward": None, "kl": math.nan})
            progress.warmup(1, 2, {})


def test_durations_and_sparklines_read_well() -> None:
    assert [duration(s) for s in (5, 89, 600, 11_100)] == ["5 s", "89 s", "10 min", "3 h 05 min"]
    assert sparkline([0.0, 1.0], 10) == "▁█"
    assert sparkline([1.0] * 50, 10) == "▁" * 10
    assert sparkline([math.nan], 10) == ""
    assert len(sparkline([float(i) for i in range(401)], 40)) == 40


@pytest.mark.skipif(os.name == "nt", reason="signals are sent otherwise there")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_stops(
    number: signal.Signals, capfd: pytest.CaptureFixture
) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), interruptible(SilentProgress().stopping) as interrupt:  # noqa: PT012
        assert not interrupt.requested
        os.kill(os.getpid(), number)
        assert interrupt.requested
        os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before
    assert "again to stop at once" in capfd.readouterr().err


def test_in_another_thread_nothing_is_caught() -> None:
    seen: list[bool] = []

    def work() -> None:
        with interruptible(SilentProgress().stopping) as interrupt:
            seen.append(interrupt.requested)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]


def small_run(**grpo: int) -> Recipe:
    return recipe_from(
        {
            "rounds": 2,
            "cases": {"source": "clinic", "clinic_train": 60, "clinic_test": 4},
            "policy": {
                "scratch": {"layers": 1, "hidden": 32, "heads": 2, "feedforward": 64, "vocabulary": 800}
            },
            "sft": {"steps": 2, "batch_cases": 4},
            "grpo": {"group_size": 2, "cases_per_round": 2, "max_new_tokens": 320, **grpo},
            "rewards": {"length": {"options": {"buffer": 1.0}}},
            "guard": {"enabled": False},
        }
    )


def test_a_run_stops_before_its_first_update_where_sampler_and_learner_disagree(tmp_path: Path) -> None:
    class Faulty(NativeSampler):
        def sample(self, *arguments: Any) -> Iterator[Group]:
            for group in super().sample(*arguments):
                off = tuple(replace(one, logprobs=one.logprobs - 0.05) for one in group.completions)
                yield replace(group, completions=off)

    with pytest.raises(RunError, match="round 1: sampler and learner disagree"):
        train(small_run(), tmp_path / "run", sampler=Faulty, progress=SilentProgress())
    assert RunFolder.open(tmp_path / "run").metrics() == []
    assert resume(tmp_path / "run", progress=SilentProgress()).finished
    known = with_overrides(small_run(), ["grpo.correction=token_truncate"])
    assert train(known, tmp_path / "known", sampler=Faulty, progress=SilentProgress()).finished
    for row in RunFolder.open(tmp_path / "known").metrics():
        assert row["sampling/correction_mean"] == pytest.approx(math.exp(0.05), rel=1e-4)
        assert row["sampling/ratio_error"] < 1e-5


def test_tokens_of_replaced_groups_are_counted(tmp_path: Path) -> None:
    sampled = []

    class Counting(NativeSampler):
        def sample(self, *arguments: Any) -> Iterator[Group]:
            for group in super().sample(*arguments):
                sampled.extend(len(one.tokens) for one in group.completions)
                yield group

    run = train(
        small_run(dynamic_sampling=1),
        tmp_path / "run",
        rewards=lambda completions, **_: [1.0] * len(completions),  # no group has signal
        sampler=Counting,
        progress=SilentProgress(),
    )
    assert run.finished
    assert len(sampled) == 2 * 2 * 4  # two rounds of two groups of two, each sampled twice
    assert RunFolder.open(run.folder).metrics()[-1]["num_tokens"] == sum(sampled)
