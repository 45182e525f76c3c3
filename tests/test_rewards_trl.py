"""TRL's reward functions run unedited: texts or chats, the trainer's state, logging, and reward models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from rewards_support import answered, choice_case
from test_training_changes import recipe, rows
from tiny_models import FAMILIES, tiny_tokenizer
from transformers import Qwen2Config, Qwen2ForSequenceClassification

from grandrounds import train
from grandrounds.errors import RewardError
from grandrounds.recipe import RewardRecipe
from grandrounds.recipe_file import recipe_from
from grandrounds.rewards import build_rewards
from grandrounds.rewards.logged import Logged
from grandrounds.training.folder import RunFolder
from grandrounds.training.progress import SilentProgress
from grandrounds.training.trace import read_trace

SILENT = SilentProgress()


def run(tmp_path: Path, function: Any, **reward: Any) -> RunFolder:
    own = recipe_from(
        {**recipe().model_dump(mode="json"), "rewards": {"mine": {"use": "accuracy", **reward}}}
    )
    made = train(own, tmp_path / "run", cases=rows(), rewards={"mine": function}, progress=SILENT)
    return RunFolder.open(made.folder)


def test_a_function_that_reads_chats_gets_chats(tmp_path: Path) -> None:
    def chatty(prompts: Any, completions: Any, **columns: Any) -> list[float]:
        assert prompts[0][-1]["role"] == "user"
        return [float(len(completion[0]["content"])) for completion in completions]

    assert len(run(tmp_path, chatty, completions="chat").metrics()) == 2


def test_a_function_that_reads_texts_gets_texts_of_chats(tmp_path: Path) -> None:
    def texts(prompts: Any, completions: Any, **columns: Any) -> list[float]:
        assert all(isinstance(text, str) for text in (*prompts, *completions))
        return [float(len(text)) for text in completions]

    chats = [
        {"messages": [{"role": "user", "content": f"Double {n}."}], "answer": str(2 * n)} for n in range(8)
    ]
    own = recipe_from({**recipe().model_dump(mode="json"), "rewards": {"mine": {"completions": "text"}}})
    assert train(own, tmp_path / "run", cases=chats, rewards={"mine": texts}, progress=SILENT).finished


def test_state_and_logging_reach_the_metrics_and_the_rollouts(tmp_path: Path) -> None:
    def logging(completions: Any, trainer_state: Any, log_metric: Any, log_extra: Any) -> list[float]:
        assert trainer_state.max_steps == 2
        log_metric("step", trainer_state.global_step)
        log_metric("letters", torch.tensor(float(len(completions[0]))))
        log_extra("length", [len(text) for text in completions])
        return [float(len(text)) for text in completions]

    folder = run(tmp_path, logging)
    assert [row["logged/step"] for row in folder.metrics()] == [1.0, 2.0]
    assert all(row["logged/letters"] >= 0 for row in folder.metrics())
    for row in read_trace(folder.path).to_pylist():
        assert json.loads(row["extras"]) == {"length": len(row["completion"])}


def test_a_function_without_such_parameters_is_not_given_them(tmp_path: Path) -> None:
    def plain(completions: Any, answer: Any) -> list[float]:
        return [float(len(text)) for text in completions]

    folder = run(tmp_path, plain)
    assert not [name for name in folder.metrics()[0] if name.startswith("logged/")]
    assert {row["extras"] for row in read_trace(folder.path).to_pylist()} == {"{}"}


@pytest.mark.parametrize("value", [float("nan"), "much", None])
def test_what_is_no_number_is_not_logged(value: Any) -> None:
    with pytest.raises(RewardError, match="log_metric was given"):
        Logged(2).log_metric("x", value)


def test_another_number_of_values_is_not_logged() -> None:
    with pytest.raises(RewardError, match="log_extra was given 1 values for 2 completions"):
        Logged(2).log_extra("x", [1])


def classifier(folder: Path, labels: int = 1) -> Path:
    tokenizer = tiny_tokenizer(FAMILIES["qwen2"])
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_labels=labels,
        pad_token_id=tokenizer.pad_token_id,
    )
    Qwen2ForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_reward_model_is_a_reward(tmp_path: Path) -> None:
    folder = classifier(tmp_path / "model")
    own = recipe_from(
        {**recipe().model_dump(mode="json"), "rewards": {"model": {"use": f"classifier:{folder}"}}}
    )
    made = train(own, tmp_path / "run", cases=rows(), progress=SILENT)
    scores = [row["rewards/model"] for row in read_trace(made.folder).to_pylist()]
    assert len(set(scores)) > 1
    # The same text has the same score, whatever it was padded beside.
    by_text: dict[tuple[str, str], list[float]] = {}
    for row in read_trace(made.folder).to_pylist():
        by_text.setdefault((row["prompt"] or "", row["completion"]), []).append(row["rewards/model"])
    assert all(max(found) - min(found) < 1e-5 for found in by_text.values())


@pytest.mark.parametrize(("labels", "said"), [(3, "3 outputs instead of one"), (0, "cannot be loaded")])
def test_what_is_no_reward_model_is_named(labels: int, said: str, tmp_path: Path) -> None:
    folder = classifier(tmp_path / "model", labels) if labels else tmp_path / "nowhere"
    rewards = build_rewards({"model": RewardRecipe(use=f"classifier:{folder}", retries=0)})
    with pytest.raises(RewardError, match=said) as caught:
        rewards.score([answered(choice_case(), "Sharp pain.", "B")] * 2)
    assert str(folder) in str(caught.value)
