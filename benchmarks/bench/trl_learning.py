"""TRL's side of `beside_trl.py`: its GRPOTrainer on our prompts, cases and rewards. Runs in the peers' own environment.

Every `every` rounds the adapter is saved, while the clock stands still; clock.jsonl has the seconds of each round.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from grandrounds.cases.load import load_cases
from grandrounds.recipe import CasesRecipe, Recipe
from grandrounds.response.grammar import Grammar
from grandrounds.rewards import build_rewards
from grandrounds.rewards.sample import read_sample
from grandrounds.types import Completion, Prompt


class Clock(TrainerCallback):
    """Writes each round's seconds, saves adapters, and stops when the minutes are over."""

    def __init__(self, job: dict[str, Any], folder: Path, reward: Reward) -> None:
        self._job, self._folder, self._reward = job, folder, reward
        self._spent = self._began = 0.0

    def on_step_begin(self, *unused: Any, **more: Any) -> None:
        self._began = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **more: Any) -> None:
        seconds = time.perf_counter() - self._began
        self._spent += seconds
        with (self._folder / "clock.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(
                json.dumps({"round": state.global_step, "seconds": seconds, **self._reward.seen}) + "\n"
            )
        print(f"round {state.global_step}  {seconds:.1f} s  {self._reward.seen}", flush=True)
        over = self._spent > 60 * self._job["minutes"]
        if state.global_step % self._job["every"] == 0 or over:
            model.save_pretrained(self._folder / "adapters" / f"{state.global_step:06d}")
        control.should_training_stop |= over


class Reward:
    """Our rewards, weighted and summed as the recipe says, as one function of TRL's form."""

    __name__ = "reward"

    def __init__(self, job: dict[str, Any]) -> None:
        self.seen: dict[str, float] = {}  # of the newest round
        recipe = Recipe.model_validate(job["recipe"])
        book = load_cases(CasesRecipe.model_validate(job["cases"]), seed=job["cases_seed"])
        self._train, self._longest = book.train, recipe.grpo.max_new_tokens
        self._grammar = Grammar(recipe.prompt.reasoning_tag, recipe.prompt.answer_tag)
        self._rewards = build_rewards(recipe.rewards, knowledge=book.knowledge)

    def __call__(
        self,
        completions: list[list[dict[str, str]]],
        completion_ids: list[list[int]],
        place: list[int],
        **columns: Any,
    ) -> list[float]:
        samples = [
            read_sample(
                Prompt(self._train[case], np.zeros(0, np.int64), ""),
                Completion(
                    np.asarray(tokens),
                    np.zeros(len(tokens), np.float32),
                    messages[-1]["content"],
                    self._finish(tokens),
                ),
                self._grammar,
                self._longest,
            )
            for messages, tokens, case in zip(completions, completion_ids, place, strict=True)
        ]
        scored = self._rewards.score(samples)
        self.seen = {"accuracy": float(np.mean([sample.verdict.correct for sample in samples]))}
        return scored.rewards.tolist()

    def _finish(self, tokens: list[int]) -> Any:
        return "length" if len(tokens) >= self._longest else "stop"


def main() -> None:
    """Train on the job in the file named."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    recipe, folder = Recipe.model_validate(job["recipe"]), Path(job["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "clock.jsonl").unlink(missing_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(job["model"], padding_side="left")
    first = tokenizer.apply_chat_template(job["prompts"][0], add_generation_prompt=True)["input_ids"]
    assert first == job["first_tokens"], "the prompts' tokens are not ours"
    grpo, policy = recipe.grpo, recipe.policy
    completions, reward = grpo.cases_per_round * grpo.group_size, Reward(job)
    trainer = GRPOTrainer(
        model=job["model"],
        reward_funcs=reward,
        args=GRPOConfig(
            output_dir=str(folder / "trl"),
            model_init_kwargs={"dtype": policy.precision},
            per_device_train_batch_size=job["micro_batch"],
            gradient_accumulation_steps=completions // job["micro_batch"],
            steps_per_generation=completions // job["micro_batch"],
            num_generations=grpo.group_size,
            max_completion_length=grpo.max_new_tokens,
            max_steps=len(job["prompts"]) // grpo.cases_per_round,
            shuffle_dataset=False,
            seed=job["seed"],
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            temperature=grpo.temperature,
            beta=grpo.beta,
            num_iterations=1,
            loss_type=grpo.loss,
            scale_rewards=grpo.advantage_scale,
            epsilon=grpo.clip_low,
            epsilon_high=grpo.clip_high,
            learning_rate=grpo.learning_rate,
            lr_scheduler_type="constant",
            optim="adamw_torch_fused",
            adam_beta2=0.95,
            weight_decay=grpo.weight_decay,
            max_grad_norm=grpo.max_grad_norm,
            logging_strategy="no",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
        ),
        train_dataset=Dataset.from_dict({"prompt": job["prompts"], "place": job["places"]}),
        processing_class=tokenizer,
        peft_config=LoraConfig(
            r=policy.lora_rank,
            lora_alpha=policy.lora_alpha,
            target_modules="all-linear",
            lora_dropout=0.0,
            task_type="CAUSAL_LM",
        ),
        callbacks=[Clock(job, folder, reward)],
    )
    trainer.train()


if __name__ == "__main__":
    main()
