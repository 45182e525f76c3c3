"""TRL's side: its GRPOTrainer on a workload, timed from outside. Runs in the peers' own environment.

Settings that decide its speed are given by the job (`bench.tuning` finds the fastest): `micro_batch`, completions that
are forwarded at once in the update, `autocast`, whether torch's bfloat16 autocast is on, and `checkpointing`.
With `given`, completions are imposed rather than sampled, and the gradient's norm is noted.
"""

from __future__ import annotations

import tempfile
import time
from functools import partial
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import LogitsProcessorList, PreTrainedTokenizerFast, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from bench.forced import ForcedEnds, GivenTokens
from bench.models import word
from bench.process import now
from bench.side import Job, serve
from bench.workloads import FULL, Workload, given_completions, lengths, prompt_tokens, rewards


class TimedTrainer(GRPOTrainer):
    """Notes when generation began and ended, and when scoring did."""

    clock: list[dict[str, float]]
    ends: np.ndarray  # [N, G], where completions must end
    device_type: str

    def _generate(self, prompts: list) -> tuple:
        started = now(self.device_type)
        generated = super()._generate(prompts)
        self.clock[-1]["sampling"] = now(self.device_type) - started
        sampled = [len(tokens) for tokens in generated[1]]
        assert sampled == self.ends.ravel().tolist(), "completions do not end where the schedule says"
        return generated

    def _generate_and_score_completions(self, inputs: list) -> dict[str, Any]:
        scored = super()._generate_and_score_completions(inputs)
        self.clock[-1]["scored"] = now(self.device_type)
        return scored


class Clock(TrainerCallback):
    """A row for each optimizer step, from its beginning to its end."""

    def __init__(self, device: str) -> None:
        self._device = device
        self.rows: list[dict[str, float]] = []

    def on_step_begin(self, *unused: Any, **more: Any) -> None:
        self.rows.append({"started": now(self._device), "cpu_before": time.process_time()})

    def on_step_end(self, *unused: Any, **more: Any) -> None:
        ended, row = now(self._device), self.rows[-1]
        row["step"] = ended - row["started"]
        row["cpu"] = time.process_time() - row["cpu_before"]
        row["update"] = ended - row["scored"]

    def on_log(self, *unused: Any, logs: dict[str, Any], **more: Any) -> None:
        """Only where `given` switches logging on."""
        if "grad_norm" in logs:
            self.rows[-1]["grad_norm"] = float(logs["grad_norm"])


def compute(job: Job) -> dict[str, Any]:
    """Seconds of each timed step: all of it, its sampling, its update."""
    workload, clock = job.workload, Clock(job.device)
    words = [" ".join(word(token) for token in tokens) for tokens in prompt_tokens(workload)]
    with tempfile.TemporaryDirectory() as folder:
        trainer = TimedTrainer(
            model=job.model,
            reward_funcs=reward,
            args=arguments(job, folder),
            train_dataset=Dataset.from_dict({"prompt": words, "number": list(range(workload.prompts))}),
            # Not AutoTokenizer: it takes every Qwen2 model's tokenizer for Qwen2's own.
            processing_class=PreTrainedTokenizerFast.from_pretrained(job.model, padding_side="left"),
            peft_config=adapter(workload),
            callbacks=[clock],
        )
        trainer.clock, trainer.ends, trainer.device_type = clock.rows, lengths(workload), job.device
        reward.values = rewards(workload).ravel().tolist()
        trainer.model.generate = partial(trainer.model.generate, logits_processor=schedule(job))
        trainer.train()
    kept = ("step", "sampling", "update", "cpu", "grad_norm")
    rows = [{name: row[name] for name in kept if name in row} for row in clock.rows]
    return {"steps": rows[job.warmup :], "versions": versions()}


def schedule(job: Job) -> LogitsProcessorList:
    """Where completions end, or what they are."""
    prompt = job.workload.prompt_tokens
    if job.settings.get("given"):
        return LogitsProcessorList([GivenTokens(given_completions(job.workload), prompt)])
    return LogitsProcessorList([ForcedEnds(lengths(job.workload), prompt)])


def reward(completions: list[str], **columns: Any) -> list[float]:
    """The workload's rewards: TRL hands completions over in the dataset's order, group by group."""
    return reward.values  # type: ignore[attr-defined]


def adapter(workload: Workload) -> LoraConfig | None:
    """As ours: every linear layer but the head, no dropout."""
    if workload.adapter == FULL:
        return None
    return LoraConfig(
        r=workload.lora_rank,
        lora_alpha=2 * workload.lora_rank,
        target_modules="all-linear",
        lora_dropout=0.0,
        task_type="CAUSAL_LM",
    )


def arguments(job: Job, folder: str) -> GRPOConfig:
    """One optimizer step for each generation batch, which is the whole round; otherwise what ours does by default."""
    workload, settings = job.workload, job.settings
    micro_batch = int(settings.get("micro_batch", workload.completions))
    cuts = workload.completions // micro_batch
    return GRPOConfig(
        output_dir=folder,
        model_init_kwargs={"dtype": workload.precision},
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=cuts,
        steps_per_generation=cuts,
        num_generations=workload.group,
        max_completion_length=workload.max_new,
        max_steps=job.warmup + job.steps,
        shuffle_dataset=False,
        use_cpu=job.device == "cpu",
        bf16=bool(settings.get("autocast", False)),
        gradient_checkpointing=bool(settings.get("checkpointing", False)),
        temperature=1.0,
        beta=0.0,
        num_iterations=1,
        loss_type="dapo",
        scale_rewards="group",
        epsilon=0.2,
        epsilon_high=0.28,
        learning_rate=1e-5,
        lr_scheduler_type="constant",
        optim="adamw_torch_fused",
        adam_beta2=0.95,
        weight_decay=0.0,
        max_grad_norm=1.0,
        logging_strategy="steps" if settings.get("given") else "no",
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )


def versions() -> dict[str, str]:
    """Of what computes."""
    import transformers
    import trl

    return {"trl": trl.__version__, "torch": torch.__version__, "transformers": transformers.__version__}


if __name__ == "__main__":
    serve(compute)
