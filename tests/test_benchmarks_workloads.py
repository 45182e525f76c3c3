"""What both sides of a benchmark are given, and what becomes of it in ours."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sampling_support import sample

from bench.alternate import Measured
from bench.models import model_folder, word, word_tokenizer
from bench.ours import prompts_of, recipe_of
from bench.report import render, rows
from bench.schedule import GivenSampler, ScheduledSampler
from bench.side import Job, Side, SideFailed, run_side
from bench.tuning import search
from bench.workloads import END, WORKLOADS, Workload, given_completions, lengths, prompt_tokens, rewards
from grandrounds.kernels.shared_prefix.tree import token_tree
from grandrounds.policy.load import load_policy
from grandrounds.policy.logprobs import tree_logprobs
from grandrounds.sampling.sampler import SamplingSettings

EVERY = pytest.mark.parametrize("workload", WORKLOADS.values(), ids=WORKLOADS)


@EVERY
def test_workload_survives_its_journey(workload: Workload) -> None:
    assert Workload.from_json(json.loads(json.dumps(workload.to_json()))) == workload


@EVERY
def test_rewards_of_a_group_all_differ(workload: Workload) -> None:
    assert all(len(set(group)) == workload.group for group in rewards(workload))


@EVERY
def test_lengths_fit(workload: Workload) -> None:
    ends = lengths(workload)
    assert ends.shape == (workload.prompts, workload.group)
    assert ends.min() >= 1
    assert ends.max() <= workload.max_new
    if workload.mean_new and (ends == workload.max_new).any():
        assert 0.7 * workload.mean_new < ends.mean() < workload.mean_new  # the longest are cut off
    else:
        assert ends.mean() == pytest.approx(workload.mean_new or workload.max_new, rel=0.05)


def test_a_text_of_n_words_has_n_tokens() -> None:
    tokenizer = word_tokenizer(WORKLOADS["A"].shape.vocabulary)
    tokens = prompt_tokens(WORKLOADS["A"])[0].tolist()
    assert tokenizer(" ".join(word(token) for token in tokens))["input_ids"] == tokens


def test_our_completions_end_on_schedule_with_their_own_logprobs(tmp_path: Path) -> None:
    workload = WORKLOADS["smoke-ragged"]
    model = model_folder(workload.shape, tmp_path)
    policy = load_policy(recipe_of(workload, str(model)).policy, seed=0)
    ends = lengths(workload)
    sampler = ScheduledSampler(policy, {str(number): row for number, row in enumerate(ends)})
    groups = sample(sampler, prompts_of(workload), workload.group, SamplingSettings(workload.max_new), (0,))
    sampled = [[completion.tokens for completion in group.completions] for group in groups]
    assert [[len(tokens) for tokens in group] for group in sampled] == ends.tolist()
    assert all(
        (tokens == END).nonzero()[0].tolist() == [len(tokens) - 1] for group in sampled for tokens in group
    )
    tree = token_tree([(group.prompt.tokens, [c.tokens for c in group.completions]) for group in groups])
    targets = np.concatenate([completion.tokens for group in groups for completion in group.completions])
    behaviour = np.concatenate([completion.logprobs for group in groups for completion in group.completions])
    logprobs, _ = tree_logprobs(policy, tree, tree.tokens.new_tensor(targets))
    assert np.allclose(logprobs.detach().numpy(), behaviour, atol=1e-4)


def test_given_completions_are_sampled_as_they_stand(tmp_path: Path) -> None:
    workload = WORKLOADS["smoke-ragged"]
    policy = load_policy(recipe_of(workload, str(model_folder(workload.shape, tmp_path))).policy, seed=0)
    given = given_completions(workload)
    settings = SamplingSettings(workload.max_new)
    groups = sample(GivenSampler(policy, given), prompts_of(workload), workload.group, settings, (0,))
    sampled = [completion.tokens.tolist() for group in groups for completion in group.completions]
    assert sampled == [row[:end].tolist() for row, end in zip(given, lengths(workload).ravel(), strict=True)]


def test_search_takes_the_fastest_that_fits_and_stops_when_it_gets_worse() -> None:
    seconds = {64: None, 32: 9.0, 16: 5.0, 8: 5.2, 4: 7.0}
    best = search(WORKLOADS["A"], lambda settings: seconds[settings["micro_batch"]])
    assert best == {"micro_batch": 16, "autocast": False, "checkpointing": False}


def test_search_tries_autocast_on_bfloat16_alone() -> None:
    def faster_with_autocast(settings: dict[str, object]) -> float:
        return 1.0 if settings["autocast"] else 2.0

    assert search(WORKLOADS["B16"], faster_with_autocast)["autocast"]
    assert not search(WORKLOADS["B32"], faster_with_autocast)["autocast"]


def test_search_computes_activations_twice_only_where_nothing_fits() -> None:
    assert search(WORKLOADS["A"], lambda settings: None)["checkpointing"]


def test_report_compares_medians() -> None:
    def result(*steps: float) -> dict[str, object]:
        rows = [{"step": step, "sampling": step / 4, "update": step / 2} for step in steps]
        return {"steps": rows, "peak_bytes": 1_000_000, "versions": {"x": "1"}}

    measured = Measured(WORKLOADS["A"], threads=2, machine=[{"matmul": 1e11, "copy": 1e10}])
    measured.sides.update(ours=[result(1.0, 9.0), result(2.0)], TRL=[result(6.0, 6.0)])
    step = rows(measured)[0]
    assert (step["ours"], step["TRL"]) == (2.0, 6.0)
    assert "3.00 ×" in render(measured)


def test_report_leaves_out_what_was_not_measured() -> None:
    sampled = {"steps": [{"sampling": 1.0}], "peak_bytes": 1_000_000, "versions": {"x": "1"}}
    measured = Measured(WORKLOADS["A"], threads=2, machine=[{"matmul": 1e11, "copy": 1e10}])
    measured.sides.update(ours=[sampled], vLLM=[sampled])
    assert not [row for row in rows(measured) if "update" in row["what"] or "step" in row["what"]]


def test_a_side_that_fails_says_why() -> None:
    import sys

    job = Job(replace(WORKLOADS["smoke"], precision="no such type"), "nowhere", threads=1, warmup=0, steps=1)
    with pytest.raises(SideFailed, match="no such type"):
        run_side(Side("machine", "machine", sys.executable), job)


def test_no_benchmark_hides_a_library() -> None:
    """Peers run with this folder on their path: a file named like an optional library of theirs would replace it."""
    from transformers.utils import import_utils

    optional = {
        name.removeprefix("is_").removesuffix("_available")
        for name in dir(import_utils)
        if name.startswith("is_")
    }
    assert "kernels" in optional
    names = {path.stem for path in (Path(__file__).parents[1] / "benchmarks").glob("*.py")}
    assert names.isdisjoint(optional | set(sys.stdlib_module_names))
