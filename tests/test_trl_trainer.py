"""GRPOTrainer resumes, evaluates, stops and refuses as a TRL script expects, and passes rewards what TRL passes."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import IA3Config, LoraConfig, get_peft_model
from test_rewards_trl import classifier
from tiny_models import tiny_model_folder
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    TrainerCallback,
)

from grandrounds.errors import GrandRoundsError, RunError
from grandrounds.training.folder import RunFolder
from grandrounds.trl import GRPOConfig, GRPOTrainer

TEXTS = [{"prompt": f"Count to {n}:", "n": n, "answer": str(n)} for n in range(6)]
CHATS = [{"prompt": [{"role": "user", "content": f"Count to {n}."}], "n": n} for n in range(6)]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_model_folder(tmp_path_factory.mktemp("tiny"), "llama"))


def letters(completions: Any, **columns: Any) -> list[float]:
    texts = [one if isinstance(one, str) else one[0]["content"] for one in completions]
    return [text.count("e") - 0.1 * len(text) for text in texts]


def config(output: Path, **fields: Any) -> GRPOConfig:
    usual: dict[str, Any] = {
        "per_device_train_batch_size": 4,
        "num_generations": 2,
        "max_completion_length": 6,
        "max_steps": 2,
        "learning_rate": 1e-3,
        "logging_steps": 1,
        "save_steps": 1,
        "use_cpu": True,
    }
    return GRPOConfig(str(output), **{**usual, **fields})


def trainer(
    folder: Any, output: Path, rewards: Any = letters, data: Any = TEXTS, **given: Any
) -> GRPOTrainer:
    fields = given.pop("fields", {})
    return GRPOTrainer(folder, rewards, config(output, **fields), data, **given)


def weights(output: Path, step: int) -> list[torch.Tensor]:
    return list(AutoModelForCausalLM.from_pretrained(output / f"checkpoint-{step}").parameters())


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("data", [TEXTS, CHATS])
def test_rewards_are_passed_what_trl_passes_and_nothing_else(data: Any, folder: str, tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []

    def watching(**given: Any) -> list[float]:
        seen.append(given)
        return letters(given["completions"])

    made = trainer(folder, tmp_path, watching, data)
    made.train()
    columns = set(data[0]) - {"prompt"}
    fixed = {"prompts", "completions", "completion_ids", "trainer_state", "log_extra", "log_metric"}
    assert all(given.keys() == fixed | columns for given in seen)
    assert all(given["trainer_state"] is made.state for given in seen)
    prompts = [row["prompt"] for row in data]
    for given in seen:
        assert all(len(given[name]) == 2 for name in ("prompts", "completions", "completion_ids", "n"))
        assert all(prompt == prompts[n] for prompt, n in zip(given["prompts"], given["n"], strict=True))
        assert all(isinstance(ids[0], int) for ids in given["completion_ids"])
        one = given["completions"][0]
        assert isinstance(one, str) if data is TEXTS else (len(one) == 1 and one[0]["role"] == "assistant")


def test_without_columns_rewards_get_none(folder: str, tmp_path: Path) -> None:
    def watching(completions: Any, **given: Any) -> list[float]:
        assert "n" not in given
        return letters(completions)

    trainer(folder, tmp_path, watching, fields={"remove_unused_columns": True, "max_steps": 1}).train()


def test_a_plain_prompt_has_the_tokens_that_the_tokenizer_gives_it(folder: str, tmp_path: Path) -> None:
    made = trainer(folder, tmp_path, fields={"max_steps": 1})
    prompts: list[Any] = []
    listener = made._listener.__class__.__call__

    def seen(self: Any, done: Any) -> bool:
        prompts.extend(group.prompt for group in done.groups)
        return listener(self, done)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(made._listener.__class__, "__call__", seen)
        made.train()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert prompts
    for prompt in prompts:
        assert prompt.tokens.tolist() == tokenizer(text=prompt.case.question)["input_ids"]
        assert prompt.tokens[0] == tokenizer.bos_token_id


@pytest.mark.parametrize("in_memory", [False, True])
@pytest.mark.parametrize("peft", [None, LoraConfig(r=2, lora_alpha=4)])
def test_a_resumed_training_equals_an_uninterrupted_one(
    peft: Any, in_memory: bool, folder: str, tmp_path: Path
) -> None:
    def model() -> Any:
        return AutoModelForCausalLM.from_pretrained(folder) if in_memory else folder

    class Stop(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
            control.should_training_stop = state.global_step == 1
            return control

    whole, half = tmp_path / "whole", tmp_path / "half"
    full = trainer(model(), whole, peft_config=peft)
    full.train()
    stopped = trainer(model(), half, peft_config=peft, callbacks=[Stop])
    assert stopped.train().global_step == 1
    again = trainer(model(), half, peft_config=peft)
    assert again.train(resume_from_checkpoint=True).global_step == 2
    name = "adapter_model.safetensors" if peft else "model.safetensors"
    assert (whole / "checkpoint-2" / name).read_bytes() == (half / "checkpoint-2" / name).read_bytes()
    steps = [row["step"] for row in again.state.log_history if "loss" in row]
    assert steps == [1, 2]
    assert [row.get("reward") for row in full.state.log_history if "loss" in row] == [
        row.get("reward") for row in again.state.log_history if "loss" in row
    ]


def test_a_stopped_or_failed_training_keeps_its_checkpoint_and_log(folder: str, tmp_path: Path) -> None:
    class Stop(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            control.should_training_stop = True

    def fails_later(completions: Any, trainer_state: Any, **columns: Any) -> list[float]:
        return letters(completions) if trainer_state.global_step < 1 else []

    trainer(folder, tmp_path / "stopped", callbacks=[Stop()], fields={"save_steps": 50}).train()
    with pytest.raises(GrandRoundsError, match="returned 0 scores"):
        trainer(folder, tmp_path / "failed", fails_later).train()
    for output in (tmp_path / "stopped", tmp_path / "failed"):
        assert (output / "checkpoint-1" / "model.safetensors").is_file()
    again = trainer(folder, tmp_path / "stopped", fields={"save_steps": 50})
    again.train(resume_from_checkpoint=True)
    assert [row["step"] for row in again.state.log_history if "loss" in row] == [1, 2]


def test_more_steps_continue_a_finished_training(folder: str, tmp_path: Path) -> None:
    fields = {"lr_scheduler_type": "constant"}
    trainer(folder, tmp_path / "long", fields={**fields, "max_steps": 3}).train()
    trainer(folder, tmp_path / "short", fields=fields).train()
    trainer(folder, tmp_path / "short", fields={**fields, "max_steps": 3}).train(
        resume_from_checkpoint=tmp_path / "short" / "checkpoint-2"
    )
    assert same(weights(tmp_path / "long", 3), weights(tmp_path / "short", 3))


def test_what_cannot_be_resumed_is_said(folder: str, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run to resume"):
        trainer(folder, tmp_path).train(resume_from_checkpoint=True)
    trainer(folder, tmp_path).train()
    with pytest.raises(RunError, match="newest checkpoint, which is checkpoint-2"):
        trainer(folder, tmp_path).train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    with pytest.raises(RunError, match=r"`grpo.temperature` is 1.0 and cannot become 0.5"):
        trainer(folder, tmp_path, fields={"temperature": 0.5}).train(resume_from_checkpoint=True)


def test_a_script_started_again_trains_in_a_new_folder(folder: str, tmp_path: Path) -> None:
    for name in ("run", "run-2"):
        trainer(folder, tmp_path, fields={"max_steps": 1}).train()
        assert RunFolder.open(tmp_path / name).metrics()


def test_evaluation_samples_other_prompts_and_is_logged(folder: str, tmp_path: Path) -> None:
    made = trainer(
        folder, tmp_path, eval_dataset={"few": TEXTS[:2], "more": TEXTS[:3]}, fields={"max_steps": 1}
    )
    with pytest.raises(RunError, match="Call train"):
        made.evaluate()
    made.train()
    metrics = made.evaluate()
    assert {"eval_few_reward", "eval_more_reward", "eval_more_runtime"} <= metrics.keys()
    assert made.state.log_history[-1]["eval_few_reward"] == metrics["eval_few_reward"]
    assert made.evaluate(TEXTS[3:], metric_key_prefix="test")["test_completions/max_length"] <= 6


def test_evaluating_in_between_changes_nothing_in_training(folder: str, tmp_path: Path) -> None:
    trainer(folder, tmp_path / "without").train()
    fields = {"eval_strategy": "steps", "eval_steps": 1}
    made = trainer(folder, tmp_path / "with", fields=fields, eval_dataset=TEXTS[:2])
    made.train()
    assert [row["step"] for row in made.state.log_history if "eval_reward" in row] == [1, 2]
    assert same(weights(tmp_path / "without", 2), weights(tmp_path / "with", 2))


def test_reward_models_are_rewards_by_name_and_in_memory(folder: str, tmp_path: Path) -> None:
    saved = classifier(tmp_path / "judge")
    model = AutoModelForSequenceClassification.from_pretrained(saved)
    rewards = [str(saved), model, functools.partial(letters, weight=2)]
    given = {"reward_processing_classes": [None, AutoTokenizer.from_pretrained(saved), None]}
    made = trainer(folder, tmp_path / "out", rewards, fields={"max_steps": 1}, **given)
    made.train()
    row = made.state.log_history[0]
    assert row["rewards/judge/mean"] == pytest.approx(row["rewards/judge_2/mean"])
    assert "rewards/letters/mean" in row


def test_the_scripts_tokenizer_is_used_where_it_is_another(folder: str, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    own = trainer(folder, tmp_path / "own", processing_class=tokenizer)
    assert own.recipe.policy.model == folder
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}|"
    seen: list[str] = []

    def watching(prompts: Any, completions: Any, **columns: Any) -> list[float]:
        seen.extend(message["content"] for prompt in prompts for message in prompt)
        return letters(completions)

    made = trainer(
        folder, tmp_path / "out", watching, CHATS, processing_class=tokenizer, fields={"max_steps": 1}
    )
    made.train()
    assert made.model.config.vocab_size == len(tokenizer)
    trace = (tmp_path / "out" / "run" / "recipe.yaml").read_text()
    assert "model: memory" in trace
    assert seen


def test_a_saved_adapter_is_trained_on(folder: str, tmp_path: Path) -> None:
    lora = LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj"])
    trainer(folder, tmp_path / "first", peft_config=lora).train()
    saved = tmp_path / "first" / "checkpoint-2"
    made = trainer(str(saved), tmp_path / "second", fields={"max_steps": 1})
    made.train()
    assert made.model.peft_config["default"].r == 2
    assert made.recipe.policy.adapter == "lora"
    with pytest.raises(GrandRoundsError, match="is a saved adapter"):
        trainer(str(saved), tmp_path / "third", peft_config=lora)
    assert (tmp_path / "second" / "checkpoint-1" / "adapter_model.safetensors").is_file()


def adapted(folder: str) -> Any:
    return get_peft_model(AutoModelForCausalLM.from_pretrained(folder), LoraConfig(r=2))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"tools": [print]}, "takes no `tools`"),
        ({"rollout_func": print}, "takes no `rollout_func`"),
        ({"optimizers": (object(), None)}, "takes no `optimizers`"),
        ({"rewards": None}, "there is no reward"),
        ({"rewards": [3]}, "3 is no reward"),
        ({"fields": {"reward_weights": [1.0, 2.0]}}, "2 of them for 1 rewards"),
        ({"fields": {"top_p": 0.5}}, "would make it another one"),
        ({"fields": {"eval_strategy": "steps"}}, "there is no eval_dataset"),
        ({"data": None}, "NoneType is no data set"),
        ({"data": {"train": TEXTS}}, "dict is no data set"),
        ({"data": iter(TEXTS)}, "a stream has no length"),
        ({"data": [{"question": "?"}]}, "no column `prompt`"),
        ({"data": [{"prompt": "?", "image": b"x"}]}, "has an image"),
        ({"data": [TEXTS[0], CHATS[0]]}, "some prompts are text and some are messages"),
        ({"data": [{"prompt": [{"role": "tool", "content": "x"}]}]}, "is no message"),
        ({"peft_config": IA3Config()}, "IA3Config is no LoraConfig"),
        ({"peft_config": LoraConfig(use_dora=True)}, "`use_dora` cannot be set"),
        ({"peft_config": LoraConfig(target_modules=r".*_proj")}, "one by one"),
    ],
)
def test_what_is_not_there_is_refused(given: dict[str, Any], said: str, folder: str, tmp_path: Path) -> None:
    with pytest.raises(GrandRoundsError, match=said):
        trainer(folder, tmp_path, **given)


def test_other_librarys_settings_and_models_with_adapters_are_refused(folder: str, tmp_path: Path) -> None:
    with pytest.raises(GrandRoundsError, match="is not GRPOConfig"):
        GRPOTrainer(folder, letters, args={"output_dir": "x"}, train_dataset=TEXTS)  # type: ignore[arg-type]
    with pytest.raises(GrandRoundsError, match="has an adapter already"):
        trainer(adapted(folder), tmp_path)
    with pytest.raises(GrandRoundsError, match="nothing is pushed"):
        trainer(folder, tmp_path).push_to_hub()


def test_a_reward_that_raises_names_its_line(folder: str, tmp_path: Path) -> None:
    def broken(completions: Any, **columns: Any) -> list[float]:
        raise ValueError("no judge")

    with pytest.raises(GrandRoundsError, match="no judge") as caught:
        trainer(folder, tmp_path, broken).train()
    assert "test_trl_trainer.py" in caught.value.where
