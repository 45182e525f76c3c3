"""A script for TRL's GRPOTrainer, as its users write them: messages, columns, two reward functions. Arguments: a JSON
file with what to train, and where.

`trl_curves.py` runs it as it is, and with the import changed to grandrounds.trl.
"""

import json
import re
import sys
from pathlib import Path

from datasets import load_dataset
from peft import LoraConfig
from trl import GRPOConfig, GRPOTrainer

from bench.curve_clock import Clock

job = json.loads(Path(sys.argv[1]).read_text())


def correctness(completions, gold, **kwargs):
    """1 where the text between the answer tags is the gold answer."""
    answers = [re.findall(r"<answer>(.*?)</answer>", one[0]["content"], re.DOTALL) for one in completions]
    return [float(bool(a) and a[-1].strip().lower() == g.lower()) for a, g in zip(answers, gold, strict=True)]


def form(completions, **kwargs):
    """0.2 for a reasoning and an answer, and nothing else."""
    pattern = r"\s*<reasoning>.+</reasoning>\s*<answer>[^<]+</answer>\s*"
    return [0.2 * bool(re.fullmatch(pattern, one[0]["content"], re.DOTALL)) for one in completions]


clock = Clock()
trainer = GRPOTrainer(
    model=job["model"],
    reward_funcs=[correctness, form],
    args=GRPOConfig(
        output_dir=job["output"],
        seed=job["seed"],
        max_steps=job["steps"],
        num_generations=job["group"],
        per_device_train_batch_size=job["group"] * job["prompts"],
        max_completion_length=job["tokens"],
        learning_rate=job["learning_rate"],
        lr_scheduler_type="constant",
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        bf16=False,
        gradient_checkpointing=False,
        use_cpu=True,
    ),
    train_dataset=load_dataset("json", data_files=job["data"], split="train"),
    peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    if job["lora"]
    else None,
    callbacks=[clock],
)
trainer.train()
rewards = [row["reward"] for row in trainer.state.log_history if "reward" in row]
lengths = [row["completions/mean_length"] for row in trainer.state.log_history if "reward" in row]
Path(job["result"]).write_text(json.dumps({"rewards": rewards, "lengths": lengths, "ends": clock.ends}))
