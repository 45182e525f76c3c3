"""Planned memory beside measured: whole runs of two rounds, each in a process of its own, on random weights.

    python benchmarks/memory.py
    python benchmarks/memory.py --shapes small small-long --threads 1

Planned: `grandrounds.plan` before the run. Measured: the run's peak resident memory (ru_maxrss). Two rounds, since the
optimizer's state is there from the first step on, and the heap becomes fragmented.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from grandrounds.cli.train import quiet_libraries
from grandrounds.recipe import Recipe
from grandrounds.recipe_file import recipe_from

MIB = 2**20
TEXTS = ("A woman of 40 has chest pain and no fever. What is the diagnosis? " * 3,)


@dataclass(frozen=True)
class Shape:
    """A Qwen2-shaped model and a round's work; prompt: tokens of each prompt, new: of the longest completion."""

    hidden: int
    feedforward: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int
    adapter: str
    cases: int
    group: int
    prompt: int
    new: int
    pack: int = 16_384
    precision: str = "float32"


SHAPES = {
    "small": Shape(256, 768, 6, 8, 8, 4096, "full", 8, 8, 192, 128),
    "small-long": Shape(256, 768, 6, 8, 8, 4096, "full", 8, 8, 64, 512),
    "middle-lora": Shape(640, 1792, 12, 10, 5, 16_384, "lora", 4, 8, 192, 64),
    "middle-full": Shape(640, 1792, 12, 10, 5, 16_384, "full", 4, 8, 192, 64),
    "qwen2-0.5b": Shape(896, 4864, 24, 14, 2, 151_936, "lora", 1, 8, 256, 64),
    "half": Shape(640, 1792, 12, 10, 5, 16_384, "lora", 4, 8, 192, 64, precision="bfloat16"),
    "half-full": Shape(256, 768, 6, 8, 8, 4096, "full", 8, 8, 192, 128, precision="bfloat16"),
    "135m-lora": Shape(576, 1536, 30, 9, 3, 49_152, "lora", 8, 8, 192, 96, pack=4096),
    # Not used for the plan's constants:
    "small-packs": Shape(256, 768, 6, 8, 8, 4096, "lora", 8, 8, 192, 128, pack=2048),
    "store": Shape(256, 768, 6, 8, 8, 4096, "full", 48, 8, 64, 128, pack=512),
    "wide-blocks": Shape(256, 768, 2, 8, 8, 4096, "full", 30, 8, 192, 128, pack=65_536),
    "half-0.5b": Shape(896, 4864, 24, 14, 2, 151_936, "lora", 1, 8, 256, 64, precision="bfloat16"),
}


def coin(sample) -> float:  # type: ignore[no-untyped-def]
    """0 or 1 by a hash of the completion's tokens, so that groups have something to learn."""
    digest = hashlib.blake2b(np.asarray(sample.completion.tokens, np.int64).tobytes(), digest_size=1).digest()
    return float(digest[0] & 1)


def main() -> None:
    """Print one row for each shape."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--part", choices=("write", "plan", "run"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        PARTS[arguments.part](SHAPES[arguments.shapes[0]], arguments.folder)
        return
    print(
        f"{'shape':<14}{'weights':>9}{'pack':>8}{'planned':>10}{'measured':>10}{'ratio':>8}   MiB", flush=True
    )
    for name in arguments.shapes:
        with tempfile.TemporaryDirectory() as place:
            _part("write", name, place, arguments.threads)
            planned = _part("plan", name, place, arguments.threads)
            measured = _part("run", name, place, arguments.threads)["peak"]
        weights, peak = planned["parts"]["weights"] / MIB, planned["peak"]
        pack = planned["work"]["pack_tokens"]
        print(
            f"{name:<14}{weights:>9,.0f}{pack:>8,}{peak / MIB:>10,.0f}{measured / MIB:>10,.0f}"
            f"{peak / measured:>8.2f}",
            flush=True,
        )


def _part(part: str, shape: str, folder: str, threads: int) -> dict[str, Any]:
    """Do one part in a process of its own; what it printed last."""
    command = [sys.executable, __file__, "--shapes", shape, "--part", part, "--folder", folder]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def write(shape: Shape, folder: Path) -> None:
    """A model's folder with random weights, and cases whose prompts are as long as the shape says."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from grandrounds.policy.scratch import build_tokenizer

    quiet_libraries()
    tokenizer = build_tokenizer(TEXTS, 320, ())
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=shape.vocabulary,
            hidden_size=shape.hidden,
            intermediate_size=shape.feedforward,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.kv_heads,
            tie_word_embeddings=True,
            max_position_embeddings=2048,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=None,
        )
    )
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    with (folder / "cases.jsonl").open("w", encoding="utf-8") as file:
        for number in range(shape.cases):
            # Three tokens of the chat's frame; each digit is a token, each comma too.
            digits = f"{number:03d}" + ",7" * ((shape.prompt - 6) // 2)
            file.write(json.dumps({"id": str(number), "question": digits, "answer": "8"}) + "\n")
    print("{}")


def recipe(shape: Shape, folder: Path) -> Recipe:
    """Two rounds on everything that `write` wrote."""
    return recipe_from(
        {
            "rounds": 2,
            "cases": {"source": str(folder / "cases.jsonl"), "test_fraction": 0},
            "prompt": {"system": ""},
            "policy": {
                "model": str(folder / "model"),
                "adapter": shape.adapter,
                "precision": shape.precision,
                "device": "cpu",
            },
            "grpo": {
                "group_size": shape.group,
                "cases_per_round": shape.cases,
                "max_new_tokens": shape.new,
                "tokens_per_pack": shape.pack,
            },
            "rewards": {"coin": {"use": f"{__file__}:coin"}},
            "guard": {"enabled": False},
        }
    )


def plan_it(shape: Shape, folder: Path) -> None:
    """Print the plan."""
    from grandrounds import plan

    quiet_libraries()
    planned = plan(recipe(shape, folder), probe=False)
    print(json.dumps({**planned.to_json(), "shape": asdict(shape)}))


def run_it(shape: Shape, folder: Path) -> None:
    """Train, and print the most memory there was."""
    import resource

    from grandrounds import train
    from grandrounds.training.progress import SilentProgress

    quiet_libraries()
    train(recipe(shape, folder), folder / "run", progress=SilentProgress())
    print(json.dumps({"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))


PARTS = {"write": write, "plan": plan_it, "run": run_it}


if __name__ == "__main__":
    main()
