"""Sums in words, scored by five small functions: the shape of a well-known tutorial. Arguments: MODEL OUTPUT."""

import re
import sys

from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

model_name, output_dir = sys.argv[1:3]

SYSTEM_PROMPT = """
Respond in the following format:
<reasoning>
...
</reasoning>
<answer>
...
</answer>
"""


def extract_answer(text: str) -> str:
    return text.split("<answer>")[-1].split("</answer>")[0].strip()


def sums() -> Dataset:
    rows = [
        (f"Ann has {a} pens and buys {b} more. How many has she?", str(a + b))
        for a, b in zip(range(8), range(2, 10), strict=True)
    ]
    data = Dataset.from_list([{"question": question, "answer": answer} for question, answer in rows])
    return data.map(
        lambda row: {
            "prompt": [
                {"role": "system", "content": SYSTEM_PROMPT},
                {"role": "user", "content": row["question"]},
            ]
        }
    )


def correctness_reward_func(prompts, completions, answer, **kwargs) -> list[float]:
    responses = [extract_answer(completion[0]["content"]) for completion in completions]
    return [2.0 if response == gold else 0.0 for response, gold in zip(responses, answer, strict=True)]


def int_reward_func(completions, **kwargs) -> list[float]:
    responses = [extract_answer(completion[0]["content"]) for completion in completions]
    return [0.5 if response.isdigit() else 0.0 for response in responses]


def strict_format_reward_func(completions, **kwargs) -> list[float]:
    pattern = r"^<reasoning>\n.*?\n</reasoning>\n<answer>\n.*?\n</answer>\n$"
    return [0.5 if re.match(pattern, completion[0]["content"]) else 0.0 for completion in completions]


def soft_format_reward_func(completions, **kwargs) -> list[float]:
    pattern = r"<reasoning>.*?</reasoning>\s*<answer>.*?</answer>"
    return [0.5 if re.match(pattern, completion[0]["content"]) else 0.0 for completion in completions]


def xmlcount_reward_func(completions, **kwargs) -> list[float]:
    # Letters too, so that a model without any skill has something to learn from.
    contents = [completion[0]["content"] for completion in completions]
    return [0.125 * text.count("<answer>") + 0.01 * text.count("e") for text in contents]


training_args = GRPOConfig(
    output_dir=output_dir,
    run_name="sums",
    learning_rate=5e-5,
    adam_beta1=0.9,
    adam_beta2=0.99,
    weight_decay=0.1,
    warmup_steps=0.25,
    lr_scheduler_type="cosine",
    logging_steps=1,
    bf16=False,
    per_device_train_batch_size=4,
    gradient_accumulation_steps=2,
    num_generations=4,
    max_completion_length=16,
    max_steps=4,
    save_steps=2,
    max_grad_norm=0.1,
    report_to="none",
    use_cpu=True,
    log_completions=True,
)
trainer = GRPOTrainer(
    model=model_name,
    reward_funcs=[
        xmlcount_reward_func,
        soft_format_reward_func,
        strict_format_reward_func,
        int_reward_func,
        correctness_reward_func,
    ],
    args=training_args,
    train_dataset=sums(),
)
result = trainer.train()
trainer.save_model(output_dir)
