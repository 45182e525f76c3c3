"""What the shipped recipes for one GPU are planned to take, and how long completions may become in 16 GB.

    python benchmarks/planned.py
    python benchmarks/planned.py --memory 24GB --prompt-tokens 1000

A plan needs a model's configuration alone: those of the recipes' models are written down here by their published sizes,
so nothing is downloaded. Planned, not measured on a GPU.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path

from grandrounds import Plan, load_recipe, plan
from grandrounds.cli.train import quiet_libraries

GIB = 2**30
PROMPT_TOKENS = 512


@dataclass(frozen=True)
class Qwen3:
    """What tells the models of this family apart; heads and vocabulary have one size."""

    hidden: int
    layers: int
    heads: int
    feedforward: int
    tied: bool = True

    def write(self, folder: Path) -> Path:
        """A folder with the model's configuration and no weights."""
        from transformers import Qwen3Config

        Qwen3Config(
            vocab_size=151_936,
            hidden_size=self.hidden,
            intermediate_size=self.feedforward,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=8,
            head_dim=128,
            tie_word_embeddings=self.tied,
            max_position_embeddings=40_960,
        ).save_pretrained(folder)
        return folder


MODELS = {
    "Qwen/Qwen3-0.6B": Qwen3(1024, 28, 16, 3072),
    "Qwen/Qwen3-1.7B": Qwen3(2048, 28, 16, 6144),
    "Qwen/Qwen3-4B": Qwen3(2560, 36, 32, 9728),
    "Qwen/Qwen3-8B": Qwen3(4096, 36, 32, 12_288, tied=False),
}
RECIPES = ("medqa-0.6b", "medqa", "medqa-4b", "medqa-8b", "pubmedqa")


def main() -> None:
    """Print one row for each recipe, as a table of Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--memory", default="16GB", help="of the GPU (16GB)")
    parser.add_argument("--prompt-tokens", type=int, default=PROMPT_TOKENS, help=f"({PROMPT_TOKENS})")
    arguments = parser.parse_args()
    quiet_libraries()
    print("| recipe | weights | `max_new_tokens` | peak, GiB | longest completion that fits |")
    print("|---|---|---|---|---|")
    for name in RECIPES:
        made = plan_of(name, arguments.memory, arguments.prompt_tokens)
        print(
            f"| `{name}` | {made.need['weights'] / GIB:.1f} GiB | {made.work.max_new_tokens:,} "
            f"| {made.need['peak'] / GIB:.1f} | {made.longest_completion or 0:,} |",
            flush=True,
        )


def plan_of(name: str, memory: str, prompt_tokens: int) -> Plan:
    """The plan of a shipped recipe on a GPU of this memory."""
    model = load_recipe(name).policy.model
    with tempfile.TemporaryDirectory() as place:
        folder = MODELS[model].write(Path(place))
        recipe = load_recipe(name, [f"policy.model={folder}", "policy.device=cuda"])
        return plan(recipe, memory=memory, prompt_tokens=prompt_tokens, probe=False)


if __name__ == "__main__":
    main()
