"""A plan is made without loading the model, says what it assumed, and is what `train` goes by."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers
from tiny_models import tiny_model_folder

from grandrounds import load_recipe, plan, train
from grandrounds.cases.ask import ask
from grandrounds.cases.load import load_cases
from grandrounds.cli import main
from grandrounds.errors import PolicyError, RunError
from grandrounds.planning import planner, timing
from grandrounds.policy.load import load_tokenizer
from grandrounds.recipe import Recipe
from grandrounds.sampling.prompts import encode_prompt
from grandrounds.training import setup
from grandrounds.training.progress import SilentProgress

GIB = 2**30
CASES = [
    {"id": str(i), "question": "Why? " * (i + 1), "options": {"A": "one", "B": "two"}, "answer": "AB"[i % 2]}
    for i in range(20)
]


@pytest.fixture
def sets(tmp_path: Path) -> list[str]:
    """Overrides that name a tiny Qwen2 and twenty cases of growing length."""
    source = tmp_path / "cases.jsonl"
    source.write_text("".join(json.dumps(case) + "\n" for case in CASES))
    return [
        f"policy.model={tiny_model_folder(tmp_path / 'model', 'qwen2')}",
        "policy.device=cpu",
        "policy.lora_rank=4",
        f"cases.source={source}",
        "cases.test_fraction=0",
        "cases.validation_fraction=0",
        "rounds=1",
        "grpo.cases_per_round=4",
        "grpo.group_size=4",
        "grpo.max_new_tokens=16",
    ]


@pytest.fixture
def recipe(sets: list[str]) -> Recipe:
    return load_recipe("own-data", sets)


@pytest.fixture
def no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("weights were loaded")

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", refuse)


@pytest.mark.parametrize(
    ("overrides", "forwards"),
    [
        ([], 0),
        (["grpo.beta=0.1"], 1),
        (["grpo.correction=token_mask"], 1),
        (["grpo.top_entropy=0.5"], 2),  # before each of the iterations
        (["grpo.top_entropy=0.5", "grpo.correction=token_mask", "grpo.beta=0.1"], 4),
    ],
)
def test_passes_without_a_backward_pass_are_timed_too(
    sets: list[str], overrides: list[str], forwards: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every timed thing takes a second here, so that a round's seconds count what is timed."""

    def second(work: Callable[[], object]) -> float:
        work()
        return 1.0

    monkeypatch.setattr(timing, "_seconds", second)
    made = plan(load_recipe("own-data", [*sets, "grpo.iterations=2", *overrides]))
    assert made.work.forwards == forwards
    assert made.seconds is not None
    # One timed pack is one prompt with all its completions, and a round has four.
    assert made.seconds["update"] == pytest.approx(2 * (4 + made.work.steps) + forwards * 4)


def test_an_entropy_bonus_is_timed_and_planned(sets: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[float] = []

    class Noting(timing.Learner):
        def __init__(self, policy: Any, settings: Any, objective: Any) -> None:
            made.append(settings.entropy_bonus)
            super().__init__(policy, settings, objective)

    monkeypatch.setattr(timing, "Learner", Noting)
    plain, fixed, adaptive = (
        plan(load_recipe("own-data", [*sets, *more]))
        for more in ([], ["grpo.entropy_bonus=0.01"], ["grpo.entropy_target=0.5"])
    )
    assert made == [0.0, 0.01, 0.005]
    assert plain.need["head"] < fixed.need["head"] == adaptive.need["head"]


@pytest.mark.usefixtures("no_weights")
def test_the_plan_knows_the_model_without_its_weights(recipe: Recipe) -> None:
    made = plan(recipe, probe=False)
    files = Path(recipe.policy.model).glob("*.safetensors")
    need = made.need
    assert need["weights"] == pytest.approx(sum(file.stat().st_size for file in files), rel=0.05)
    assert need["optimizer"] == 2 * need["adapters"]
    assert 0 < need["adapters"] < need["weights"]
    assert made.fits
    assert made.seconds is None
    assert made.untimed == "not asked for"


@pytest.mark.usefixtures("no_weights")
def test_prompts_are_as_long_as_the_longest_case(recipe: Recipe) -> None:
    made = plan(recipe, probe=False)
    book = load_cases(recipe.cases, seed=recipe.seed)
    tokenizer = load_tokenizer(recipe.policy)
    longest = max(len(encode_prompt(tokenizer, ask(case, recipe.prompt))[0]) for case in book.train)
    assert made.work.prompt_tokens == longest
    assert made.prompts["cases"] == 20


@pytest.mark.usefixtures("no_weights")
def test_prompts_are_assumed_where_cases_cannot_be_read(sets: list[str]) -> None:
    recipe = load_recipe("own-data", [*sets, "cases.source=none.jsonl"])
    made = plan(recipe, probe=False)
    assert made.prompts["origin"].startswith("assumed: none.jsonl")
    assert plan(recipe, prompt_tokens=77, probe=False).work.prompt_tokens == 77


def test_a_model_from_scratch_is_planned_from_the_recipe() -> None:
    sizes = "policy.scratch={layers: 2, hidden: 32, heads: 2, feedforward: 64, vocabulary: 300}"
    made = plan(load_recipe("clinic", [sizes]), prompt_tokens=50)
    assert made.need["adapters"] == 0
    assert made.need["gradients"] == made.need["weights"]
    assert "not read" in made.untimed  # no tokenizer, no model to probe


@pytest.mark.usefixtures("no_weights")
def test_another_device_is_planned_for(recipe: Recipe) -> None:
    small, large = (plan(recipe, memory=memory) for memory in ("100MB", 8 * GIB))
    assert (small.fits, large.fits) == (False, True)
    assert small.need["update"] == large.need["update"]
    assert "another device" in large.untimed
    assert large.largest_group_size is not None
    gpu = recipe.model_copy(update={"policy": recipe.policy.model_copy(update={"device": "cuda"})})
    there = plan(gpu, memory="16GB")
    assert (there.device, there.precision) == ("cuda", "bfloat16")
    assert there.need["heap"] == 0


def test_the_probe_takes_the_time_of_a_round(recipe: Recipe) -> None:
    made = plan(recipe)
    assert made.seconds is not None
    assert made.seconds["sampling"] > 0
    assert made.seconds["update"] > 0
    assert made.seconds["round"] == made.seconds["sampling"] + made.seconds["update"]


def test_a_missing_model_is_named(sets: list[str]) -> None:
    with pytest.raises(PolicyError) as refusal:
        plan(load_recipe("own-data", [*sets, "policy.model=/no/such/model"]), probe=False)
    assert refusal.value.where == "/no/such/model"


def shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    monkeypatch.setattr("sys.argv", ["grandrounds", "plan", "own-data", *arguments])
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    return capsys.readouterr().out


def test_the_command_prints_every_part(
    sets: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = [part for text in sets for part in ("--set", text)]
    text = shown(capsys, monkeypatch, *given, "--no-probe")
    for part in ("weights", "adapters", "optimizer", "KV cache", "activations", "peak", "It fits"):
        assert part in text
    printed = json.loads(shown(capsys, monkeypatch, *given, "--no-probe", "--json", "--memory", "1MB"))
    assert printed["fits"] is False
    assert printed["least"] == printed["resident"] + max(printed["sampling"], printed["update"])
    assert printed["peak"] == printed["least"] + printed["parts"]["heap"]


def test_the_json_is_documented(recipe: Recipe) -> None:
    page = (Path(__file__).parents[1] / "docs/memory.md").read_text(encoding="utf-8")
    made = plan(recipe, probe=False).to_json()
    assert not [key for key in (*made, *made["parts"]) if f"`{key}`" not in page]


class Notes(SilentProgress):
    """Remembers what was noted."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def with_memory(monkeypatch: pytest.MonkeyPatch) -> Callable[[Recipe, float], None]:
    """Give the device the least that the run needs, and this share of what it needs beyond that."""

    def give(recipe: Recipe, share: float) -> None:
        # The same whatever else the process holds.
        monkeypatch.setattr(planner, "process_memory", lambda _: GIB)
        need = plan(recipe, probe=False).need
        memory = need["least"] + round(share * (need["peak"] - need["least"]))
        monkeypatch.setattr(planner, "device_memory", lambda _: memory)

    return give


def test_a_run_that_cannot_fit_is_refused_before_anything_is_loaded(
    recipe: Recipe,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    with_memory: Callable[[Recipe, float], None],
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the policy was loaded")

    monkeypatch.setattr(setup, "load_policy", refuse)
    with_memory(recipe, -0.1)
    with pytest.raises(RunError) as refusal:
        train(recipe, tmp_path / "run", progress=SilentProgress())
    assert "needs about" in refusal.value.what
    assert refusal.value.where in {"policy.model", "grpo.tokens_per_pack", "grpo.group_size"}
    assert refusal.value.hint


def test_the_refusal_names_settings_that_fit(
    recipe: Recipe, with_memory: Callable[[Recipe, float], None]
) -> None:
    book = load_cases(recipe.cases, seed=recipe.seed)
    wide = recipe.model_copy(
        update={"grpo": recipe.grpo.model_copy(update={"cases_per_round": 20, "max_new_tokens": 200})}
    )
    with_memory(wide, -0.1)
    with pytest.raises(RunError) as refusal:
        planner.check_memory(wide, book)
    named = re.findall(r"grpo\.(\w+) to (\d+)", refusal.value.hint)
    assert "tokens_per_pack" in dict(named)
    smaller = wide.grpo.model_copy(update={key: int(value) for key, value in named})
    assert planner.check_memory(wide.model_copy(update={"grpo": smaller}), book) == ""


@pytest.mark.parametrize(("share", "warned"), [(0.5, True), (1.0, False)])
def test_a_run_that_fits_is_not_refused(
    recipe: Recipe, tmp_path: Path, with_memory: Callable[[Recipe, float], None], share: float, warned: bool
) -> None:
    with_memory(recipe, share)
    notes = Notes()
    assert train(recipe, tmp_path / "run", progress=notes).finished
    assert any("Memory may run short" in note for note in notes.notes) is warned


def test_what_cannot_be_planned_is_not_refused(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise PolicyError("cannot be planned")

    monkeypatch.setattr(planner, "counted", fail)
    assert planner.check_memory(recipe, load_cases(recipe.cases, seed=recipe.seed)) == ""


@pytest.mark.parametrize("memory", [64 * GIB, GIB // 64])
def test_nothing_is_measured_where_far_more_would_fit(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch, memory: int
) -> None:
    asked = []

    def fail(*_: Any, **__: Any) -> None:
        asked.append(memory)
        raise PolicyError("was measured")

    monkeypatch.setattr(planner, "measured", fail)
    monkeypatch.setattr(planner, "device_memory", lambda _: memory)
    planner.check_memory(recipe, load_cases(recipe.cases, seed=recipe.seed))
    assert bool(asked) is (memory < GIB)
