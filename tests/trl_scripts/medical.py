"""Diagnoses with a reasoning and an answer, scored by an async function, a logging one and the length. Arguments:
MODEL OUTPUT."""

import re
import sys

from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

model_name, output_dir = sys.argv[1:3]

CASES = [
    ("Chest pain on breathing in, a friction rub.", "pericarditis", 31),
    ("Sudden breathlessness after a long flight.", "pulmonary embolism", 54),
    ("Crushing chest pain, sweating.", "myocardial infarction", 67),
    ("Burning behind the breastbone after meals.", "reflux", 45),
]
INSTRUCTION = "Think in <reasoning> and give the diagnosis in <answer>."
rows = [
    {
        "prompt": [{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": findings}],
        "diagnosis": diagnosis,
        "age": age,
    }
    for findings, diagnosis, age in CASES
]


async def diagnosis_reward(completions, diagnosis, **kwargs):
    given = [
        re.search(r"<answer>(.*?)</answer>", completion[0]["content"], re.DOTALL)
        for completion in completions
    ]
    return [
        1.0 if found and gold in found[1].lower() else 0.0
        for found, gold in zip(given, diagnosis, strict=True)
    ]


def age_reward(completions, age, log_metric, log_extra, trainer_state, **kwargs):
    log_metric("step_seen", trainer_state.global_step)
    log_extra("age", age)
    return [None if years < 40 else 0.1 for years in age]


def brevity_reward(completions, completion_ids, **kwargs):
    return [
        -0.01 * len(completion[0]["content"]) - 0.001 * ids[0]
        for completion, ids in zip(completions, completion_ids, strict=True)
    ]


class Steps(TrainerCallback):
    """Counts what it is told."""

    def __init__(self):
        self.begun, self.steps, self.logs = 0, [], []

    def on_train_begin(self, args, state, control, **kwargs):
        self.begun += 1

    def on_step_end(self, args, state, control, **kwargs):
        self.steps.append(state.global_step)

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.logs.append(dict(logs))


tokenizer = AutoTokenizer.from_pretrained(model_name)
model = AutoModelForCausalLM.from_pretrained(model_name)
steps = Steps()
trainer = GRPOTrainer(
    model=model,
    processing_class=tokenizer,
    reward_funcs=[diagnosis_reward, age_reward, brevity_reward],
    args=GRPOConfig(
        output_dir=output_dir,
        per_device_train_batch_size=4,
        num_generations=2,
        max_completion_length=12,
        num_train_epochs=2,
        beta=0.04,
        learning_rate=1e-4,
        reward_weights=[2.0, 1.0, 1.0],
        scale_rewards="batch",
        loss_type="dr_grpo",
        logging_steps=2,
        eval_strategy="steps",
        eval_steps=2,
        per_device_eval_batch_size=2,
        num_generations_eval=2,
        save_strategy="no",
        report_to=[],
        bf16=False,
        use_cpu=True,
    ),
    train_dataset=Dataset.from_list(rows),
    eval_dataset=Dataset.from_list(rows[:2]),
    callbacks=[steps],
)
result = trainer.train()
