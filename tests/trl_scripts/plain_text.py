"""Continues plain text with LoRA, scored by an object that counts characters. Arguments: MODEL OUTPUT."""

import sys

from datasets import Dataset
from peft import LoraConfig
from trl import GRPOConfig, GRPOTrainer

model_name, output_dir = sys.argv[1:3]

data = Dataset.from_list(
    [{"prompt": f"{what} is used for", "letters": "aeiou"} for what in ("Insulin", "Iron", "Zinc", "Iodine")]
)


class Vowels:
    """The share of a completion's characters that are vowels."""

    def __init__(self, most: float):
        self.most = most

    def __call__(self, prompts, completions, letters, **kwargs):
        shares = [
            sum(char in wanted for char in text) / max(1, len(text))
            for text, wanted in zip(completions, letters, strict=True)
        ]
        return [min(share, self.most) for share in shares]


trainer = GRPOTrainer(
    model=model_name,
    reward_funcs=Vowels(most=0.9),
    args=GRPOConfig(
        output_dir=output_dir,
        per_device_train_batch_size=4,
        num_generations=4,
        steps_per_generation=2,
        num_iterations=2,
        max_completion_length=8,
        max_steps=8,
        learning_rate=1e-3,
        logging_steps=4,
        save_strategy="steps",
        save_steps=4,
        save_total_limit=1,
        report_to="none",
        bf16=False,
        use_cpu=True,
    ),
    train_dataset=data,
    peft_config=LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"),
)
result = trainer.train()
trainer.save_model(output_dir)
