"""A plan is made without loading the model, says what it assumed, and is what `train` goes by."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tiny_models import tiny_model_folder

from grandrounds import Plan, load_recipe, plan, train
from grandrounds.algorithm import moments
from grandrounds.algorithm.grpo import LOSSES
from grandrounds.cases.ask import ask
from grandrounds.cli import main
from grandrounds.errors import GrandRoundsError, PolicyError, RunError
from grandrounds.planning import check
from grandrounds.policy.load import configuration, load_policy, load_tokenizer
from grandrounds.recipe import Recipe
from grandrounds.recipe_file import with_overrides
from grandrounds.sampling.prompts import encode_prompt
from grandrounds.training import setup
from grandrounds.training.progress import SilentProgress
from grandrounds.training.setup import grpo_learner

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


@pytest.mark.usefixtures("no_weights")
def test_the_plan_knows_the_model_without_its_weights(recipe: Recipe) -> None:
    made = plan(recipe, probe=False)
    files = Path(recipe.policy.model).glob("*.safetensors")
    assert made.shape.weights == pytest.approx(sum(file.stat().st_size for file in files), rel=0.05)
    assert made.need.optimizer == 2 * made.need.adapters
    assert 0 < made.need.adapters < made.need.weights
    assert made.fits
    assert made.time is None
    assert made.untimed == "not asked for"


@pytest.mark.parametrize("adapter", ["lora", "full"])
@pytest.mark.parametrize("optimizer", ["adamw", "adamw_8bit"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_optimizer_is_planned_to_keep_what_it_keeps(
    recipe: Recipe, adapter: str, optimizer: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moments, "SMALLEST", 150)  # some of a tiny model's tensors, and not all
    chosen = with_overrides(
        recipe,
        [f"policy.adapter={adapter}", f"policy.precision={precision}", f"grpo.optimizer={optimizer}"],
    )
    made = plan(chosen, probe=False)
    learner = grpo_learner(chosen, load_policy(chosen.policy, seed=0), LOSSES["dapo"])
    for parameter in learner.parameters.values():
        parameter.grad = torch.ones_like(parameter)
    learner.step(1e-3)
    state = {key: value for key, value in learner.state_dict().items() if not key.endswith(".step")}
    kinds = {torch.float32, torch.uint8} if optimizer == "adamw_8bit" else {torch.float32}
    assert {value.dtype for value in state.values()} == kinds
    assert made.need.optimizer == sum(value.nbytes for value in state.values())
    assert made.to_json()["work"]["eight_bits"] == (optimizer == "adamw_8bit")


@pytest.mark.usefixtures("no_weights")
def test_prompts_are_as_long_as_the_longest_case(recipe: Recipe) -> None:
    made = plan(recipe, probe=False)
    book = made.prompts.book
    assert book is not None
    tokenizer = load_tokenizer(recipe.policy)
    longest = max(len(encode_prompt(tokenizer, ask(case, recipe.prompt))[0]) for case in book.train)
    assert made.work.prompt_tokens == longest
    assert "20 cases" in made.prompts.origin


@pytest.mark.usefixtures("no_weights")
def test_prompts_are_assumed_where_cases_cannot_be_read(sets: list[str]) -> None:
    recipe = load_recipe("own-data", [*sets, "cases.source=none.jsonl"])
    made = plan(recipe, probe=False)
    assert made.prompts.origin.startswith("assumed: none.jsonl")
    assert plan(recipe, prompt_tokens=77, probe=False).work.prompt_tokens == 77


def test_a_model_from_scratch_is_planned_from_the_recipe() -> None:
    sizes = "policy.scratch={layers: 2, hidden: 32, heads: 2, feedforward: 64, vocabulary: 300}"
    made = plan(load_recipe("clinic", [sizes]), prompt_tokens=50)
    assert made.shape.hidden == 32
    assert made.need.adapters == 0
    assert made.need.gradients == made.need.weights
    assert "not read" in made.untimed  # no tokenizer, no model to probe


@pytest.mark.usefixtures("no_weights")
def test_another_device_is_planned_for(recipe: Recipe) -> None:
    small, large = (plan(recipe, memory=memory) for memory in ("100MB", 8 * GIB))
    assert (small.fits, large.fits) == (False, True)
    assert small.need.update == large.need.update
    assert "another device" in large.untimed
    assert large.largest_group_size is not None
    gpu = recipe.model_copy(update={"policy": recipe.policy.model_copy(update={"device": "cuda"})})
    there = plan(gpu, memory="16GB")
    assert (there.device, there.precision) == ("cuda", "bfloat16")
    assert there.need.heap == 0


@pytest.mark.usefixtures("no_weights")
def test_offloaded_layers_keep_next_to_nothing_on_a_gpu(
    sets: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def made(recompute: str) -> Plan:
        settings = [*sets, "policy.device=cuda", f"policy.recompute={recompute}"]
        return plan(load_recipe("own-data", settings), memory="16GB")

    nothing, layers, offload = (made(recompute) for recompute in ("nothing", "layers", "offload"))
    assert offload.need.activations < layers.need.activations < nothing.need.activations / 4
    assert offload.need.activations < nothing.need.activations / 10
    config = configuration(load_recipe("own-data", sets).policy, 0)
    inputs = config.num_hidden_layers * config.hidden_size * 2  # of a token, in bfloat16
    assert offload.need.offloaded == offload.work.pack_tokens * inputs
    asked = [*sets, "policy.device=cuda", "policy.recompute=offload"]
    given = [part for text in asked for part in ("--set", text)]
    assert "wait in the computer's own memory" in shown(capsys, monkeypatch, *given, "--memory", "16GB")


def test_the_probe_takes_the_time_of_a_round(recipe: Recipe) -> None:
    time = plan(recipe).time
    assert time is not None
    assert 0 < time.sampling < 60
    assert 0 < time.update < 60
    assert time.round == time.sampling + time.update


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
    for part in ("weights", "adapters", "optimizer", "keys and values", "activations", "peak", "It fits"):
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


def with_memory(monkeypatch: pytest.MonkeyPatch, recipe: Recipe, share: float) -> None:
    """Give the device the least that the run needs, and this share of what it needs beyond that."""
    # The same in every process, whatever else it holds.
    monkeypatch.setattr("grandrounds.planning.plan.process_memory", lambda _: GIB)
    parts = plan(recipe, probe=False).need
    memory = parts.least + round(share * (parts.peak - parts.least))
    monkeypatch.setattr(check, "device_memory", lambda _: memory)


def test_a_run_that_cannot_fit_is_refused_before_anything_is_loaded(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the policy was loaded")

    monkeypatch.setattr(setup, "load_policy", refuse)
    with_memory(monkeypatch, recipe, -0.1)
    with pytest.raises(RunError) as refusal:
        train(recipe, tmp_path / "run", progress=SilentProgress())
    assert "needs about" in refusal.value.what
    assert refusal.value.where in {"policy.model", "grpo.tokens_per_pack", "grpo.group_size"}
    assert refusal.value.hint


def test_the_refusal_names_settings_that_fit(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    book = plan(recipe, probe=False).prompts.book
    assert book is not None
    wide = recipe.model_copy(
        update={"grpo": recipe.grpo.model_copy(update={"cases_per_round": 20, "max_new_tokens": 200})}
    )
    with_memory(monkeypatch, wide, -0.1)
    with pytest.raises(RunError) as refusal:
        check.check_memory(wide, book)
    named = re.findall(r"grpo\.(\w+) to (\d+)", refusal.value.hint)
    assert "tokens_per_pack" in dict(named)
    smaller = wide.grpo.model_copy(update={key: int(value) for key, value in named})
    assert check.check_memory(wide.model_copy(update={"grpo": smaller}), book) == ""


@pytest.mark.parametrize(("share", "warned"), [(0.5, True), (1.0, False)])
def test_a_run_that_fits_is_not_refused(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, share: float, warned: bool
) -> None:
    with_memory(monkeypatch, recipe, share)
    notes = Notes()
    assert train(recipe, tmp_path / "run", progress=notes).finished
    assert any("Memory may run short" in note for note in notes.notes) is warned


def test_what_cannot_be_planned_is_not_refused(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise PolicyError("cannot be planned")

    book = plan(recipe, probe=False).prompts.book
    assert book is not None
    monkeypatch.setattr(check, "planned", fail)
    assert check.check_memory(recipe, book) == ""
    assert issubclass(PolicyError, GrandRoundsError)
