"""Pairs of query and key that training attention computes on a GPU, and rows of keys it keeps: counted, not timed.

    python benchmarks/blocks.py
    python benchmarks/blocks.py --workloads A E

Each workload's round as one row of tokens. Needed is what a token sees; blocks are those of
`kernels.shared_prefix.cuda`, of 128 × 128 pairs; padded is one block of prompts and
one of completions, with a mask of one byte a pair.
"""

from __future__ import annotations

import argparse

import numpy as np

from bench.workloads import WORKLOADS, Workload, lengths
from grandrounds.kernels.shared_prefix import cuda
from grandrounds.kernels.shared_prefix.layout import visible_rows
from grandrounds.kernels.shared_prefix.tree import token_tree


def main() -> None:
    """Print one row for each workload, as a table of Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workloads", nargs="+", default=["A", "B32", "C", "D", "E"], choices=WORKLOADS)
    arguments = parser.parse_args()
    print("| | pairs needed | in blocks | padded | rows of keys: blocks, padded |")
    print("|---|---|---|---|---|")
    for name in arguments.workloads:
        print(row(WORKLOADS[name]), flush=True)


def row(workload: Workload) -> str:
    """The table's row for one workload."""
    ends, prompt = lengths(workload), workload.prompt_tokens  # [N, G]
    groups, completions, longest = len(ends), ends.size, int(ends.max())
    tree = token_tree([(np.zeros(prompt), [np.zeros(end) for end in group]) for group in ends])
    mask = cuda.block_mask(visible_rows(tree, None))
    prompts = groups * prompt * (prompt + 1) // 2
    needed = prompts + int((ends * prompt + ends * (ends + 1) // 2).sum())
    blocks = mask.kv_num_blocks.sum()
    if mask.full_kv_num_blocks is not None:
        blocks = blocks + mask.full_kv_num_blocks.sum()
    in_blocks = int(blocks) * cuda.BLOCK**2
    padded = prompts + completions * longest * (prompt + longest)
    keys = groups * prompt + completions * (prompt + longest)
    return (
        f"| {workload.name} | {needed / 1e6:.2f}M | {in_blocks / 1e6:.2f}M ({in_blocks / needed:.2f}) "
        f"| {padded / 1e6:.2f}M ({padded / needed:.2f}) | {mask.seq_lengths[0]:,}, {keys:,} |"
    )


if __name__ == "__main__":
    main()
