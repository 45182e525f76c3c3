"""A TRL script under TRL and under ours, with the same completions: how far the weights are apart after some steps.

    PYTHONPATH=src .venv-peers/bin/python benchmarks/trl_weights.py

Ours trains first, on every prompt in each round. TRL's trainer is then given our completions in place of its own
sampling, and does all else itself: rewards, advantages, loss, optimizer, schedule. Writes
benchmarks/results/trl-weights.json.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.record import RESULTS, ROOT, record

PROMPTS = (
    "Count to three:",
    "Insulin is used for",
    "The capital of France is",
    "A woman of 40 has chest pain and",
)
GROUP = 4
STEPS = 6
USUAL = {
    "num_generations": GROUP,
    "per_device_train_batch_size": GROUP * len(PROMPTS),
    "max_completion_length": 12,
    "max_steps": STEPS,
    "learning_rate": 1e-3,
    "logging_steps": 1,
    "save_strategy": "no",
    "report_to": "none",
    "bf16": False,
    "use_cpu": True,
}
# What each run sets besides. A group is divided into micro-batches where gradients are accumulated.
RUNS: dict[str, dict[str, Any]] = {
    "all defaults": {},
    "grpo, KL, cosine, decay": {
        "loss_type": "grpo",
        "beta": 0.04,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 2,
        "weight_decay": 0.1,
        "adam_beta2": 0.99,
        "max_grad_norm": 0.1,
        "per_device_train_batch_size": GROUP * len(PROMPTS) // 2,
        "gradient_accumulation_steps": 2,
    },
    "dr_grpo, scaled by nothing": {"loss_type": "dr_grpo", "scale_rewards": "none", "epsilon_high": 0.28},
    "two iterations, clipped": {"num_iterations": 2, "epsilon": 0.05, "learning_rate": 5e-3},
    # Long enough that some completions end in every round: where none counts, TRL's Adam goes on by its momentum.
    "cut-off completions left out": {
        "mask_truncated_completions": True,
        "scale_rewards": "batch",
        "max_completion_length": 60,
    },
    "GDPO": {"multi_objective_aggregation": "normalize_then_sum", "reward_weights": [1.0, 0.5]},
    "LoRA": {"lora": True},
}
COLUMNS = ("run", "steps", "largest change of a weight", "largest difference between the two", "rewards")


def vowels(completions: list[str], **columns: Any) -> list[float]:
    """How many vowels a completion has."""
    return [float(sum(char in "aeiou" for char in text)) for text in completions]


def brevity(completions: list[str], completion_ids: list[list[int]], **columns: Any) -> list[float]:
    """Less for each token."""
    return [-0.1 * len(ids) for ids in completion_ids]


def main() -> int:
    """Train both sides of every run and write the result; 1 where weights are further apart than rounding explains."""
    if len(sys.argv) > 1:
        run_side(*sys.argv[1:])
        return 0
    import trl
    from safetensors.torch import load_file

    rows, apart = [], 0.0
    with tempfile.TemporaryDirectory() as scratch:
        model = make_model(Path(scratch) / "model")
        for name in RUNS:
            folder = Path(scratch) / name.replace(" ", "-").replace(",", "")
            for side in ("ours", "trl"):
                start(side, name, model, folder)
            ours, theirs, before = (
                load_file(folder / f"{which}.safetensors") for which in ("ours", "trl", "before")
            )
            moved = max(float((ours[key] - before[key]).abs().max()) for key in ours)
            difference = max(float((ours[key] - theirs[key]).abs().max()) for key in ours)
            rewards = [json.loads((folder / f"{side}.json").read_text()) for side in ("ours", "trl")]
            equal = all(abs(a - b) < 1e-5 for a, b in zip(*rewards, strict=True))
            apart = max(apart, difference / moved)
            rows.append(
                (name, str(STEPS), f"{moved:.2g}", f"{difference:.1g}", "equal" if equal else "differ")
            )
            print(*rows[-1], sep="  ", flush=True)
    note = (
        f"TRL {trl.__version__}, float32, {len(PROMPTS)} prompts with {GROUP} completions of up to 12 tokens (60 where "
        "cut-off ones are left out), a model of 33 thousand weights. Adam divides by the gradient's size, so that "
        "rounding in a small gradient shows in a weight."
    )
    record(RESULTS / "trl-weights.json", COLUMNS, rows, note)
    return int(apart > 1e-2)


def start(side: str, name: str, model: Path, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, __file__, side, name, str(model), str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{name} under {side}:\n{done.stderr[-4000:]}")


def run_side(side: str, name: str, model: str, output: str) -> None:
    """Train one side, and save its weights and rewards."""
    from datasets import Dataset
    from safetensors.torch import save_file

    folder = Path(output)
    folder.mkdir(exist_ok=True)
    options = {**USUAL, **RUNS[name]}
    lora = options.pop("lora", False)
    data = Dataset.from_list([{"prompt": prompt} for prompt in PROMPTS])
    train = ours if side == "ours" else theirs
    trainer = train(model, folder, options, data, lora)
    history = trainer.state.log_history
    (folder / f"{side}.json").write_text(json.dumps([row["reward"] for row in history if "reward" in row]))
    save_file(trained(trainer.model), folder / f"{side}.safetensors")


def trained(model: Any) -> dict[str, Any]:
    """The weights that are trained, copied."""
    return {
        name.replace("module.", ""): parameter.detach().clone()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


def ours(model: str, folder: Path, options: dict[str, Any], data: Any, lora: bool) -> Any:
    """Train here, and keep every round's completions by prompt."""
    from peft import LoraConfig
    from safetensors.torch import save_file

    from grandrounds.trl import GRPOConfig, GRPOTrainer
    from grandrounds.trl.listener import Listener

    rounds: list[dict[str, list[list[int]]]] = []
    heard = Listener.__call__

    def keeping(self: Listener, done: Any) -> bool:
        rounds.append(
            {
                group.prompt.text: [one.completion.tokens.tolist() for one in group.samples]
                for group in done.groups
            }
        )
        return heard(self, done)

    class Before:
        def on_train_begin(self, args: Any, state: Any, control: Any, model: Any, **further: Any) -> None:
            save_file(trained(model), folder / "before.safetensors")

    Listener.__call__ = keeping  # type: ignore[method-assign]
    peft = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"]) if lora else None
    trainer = GRPOTrainer(
        model,
        [vowels, brevity],
        GRPOConfig(str(folder), **options),
        data,
        callbacks=[Before()],
        peft_config=peft,
    )
    trainer.train()
    (folder / "rounds.json").write_text(json.dumps(rounds))
    return trainer


def theirs(model: str, folder: Path, options: dict[str, Any], data: Any, lora: bool) -> Any:
    """Train with TRL, which is given our completions."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM
    from trl import GRPOConfig, GRPOTrainer

    rounds = json.loads((folder / "rounds.json").read_text())

    class Forced(GRPOTrainer):
        def _generate_single_turn(self, prompt_ids: Any, *further: Any, **named: Any) -> Any:
            completions = rounds.pop(0)
            texts = [self.processing_class.decode(ids) for ids in prompt_ids]
            left = {text: list(ids) for text, ids in completions.items()}
            return [left[text].pop(0) for text in texts], None

    policy: Any = model
    if lora:
        base = AutoModelForCausalLM.from_pretrained(model)
        policy = PeftModel.from_pretrained(base, folder / "run" / "checkpoints" / "000000", is_trainable=True)
    trainer = Forced(policy, [vowels, brevity], GRPOConfig(str(folder / "trl"), **options), data)
    trainer.train()
    return trainer


def make_model(folder: Path) -> Path:
    """A tiny model with random weights."""
    sys.path.insert(0, str(ROOT / "tests"))
    from tiny_models import tiny_model_folder

    return tiny_model_folder(folder, "qwen2")


if __name__ == "__main__":
    sys.exit(main())
