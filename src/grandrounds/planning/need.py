"""A run's memory by part, from its sizes and what its model costs. All sizes are bytes."""

from __future__ import annotations

from dataclasses import dataclass

from grandrounds.evaluation.evaluate import ROWS_PER_CHUNK
from grandrounds.recipe import Recipe
from grandrounds.sampling.kv_cache import KV_CACHE_BYTES

# Heap fragmentation on a CPU, as a share of an update's activations: measured by benchmarks/memory.py,
# docs/memory.md.
FRAGMENTATION = {
    ("full", "float32"): 0.35,
    ("lora", "float32"): 1.0,
    ("full", "bfloat16"): 1.2,
    ("lora", "bfloat16"): 2.0,
}


@dataclass(frozen=True)
class Work:
    """The largest round: every prompt as long as the longest, every completion as long as allowed.

    evaluated: completions of held-out cases that are sampled at once. steps: optimizer steps of a round.
    demonstrations: of one warm-up step; 0 without a warm-up. forwards: passes over the round without a backward one.
    entropy_gradient: whether tokens' entropies have one. Other names are the recipe's.
    """

    prompts: int
    prompt_tokens: int
    group_size: int
    max_new_tokens: int
    tokens_per_pack: int
    steps: int = 1
    demonstrations: int = 0
    evaluated: int = 0
    forwards: int = 0
    entropy_gradient: bool = False

    @property
    def sequence(self) -> int:
        """Tokens of a prompt and one completion, the smallest pack."""
        return self.prompt_tokens + self.max_new_tokens

    @property
    def group_tokens(self) -> int:
        """Tokens of a prompt and all its completions."""
        return self.prompt_tokens + self.group_size * self.max_new_tokens

    @property
    def step_tokens(self) -> int:
        """Tokens forwarded for one optimizer step."""
        return max(-(-self.prompts // self.steps) * self.group_tokens, self.demonstrations * self.sequence)

    @property
    def pack_tokens(self) -> int:
        """Tokens of the largest pack."""
        return min(max(self.tokens_per_pack, self.sequence), self.step_tokens)


def work_of(recipe: Recipe, prompt_tokens: int, cases: int | None = None) -> Work:
    """The recipe's largest round with prompts of this length. cases: the number of training cases, if known."""
    grpo = recipe.grpo
    prompts = min(grpo.cases_per_round, cases or grpo.cases_per_round)
    return Work(
        prompts=prompts if recipe.rounds else 0,
        prompt_tokens=prompt_tokens,
        group_size=grpo.group_size,
        max_new_tokens=grpo.max_new_tokens,
        tokens_per_pack=grpo.tokens_per_pack,
        steps=max(1, min(grpo.minibatches, prompts)),
        demonstrations=recipe.sft.batch_cases if recipe.sft.steps else 0,
        evaluated=_evaluated(recipe),
        forwards=_forwards(recipe),
        entropy_gradient=bool(grpo.entropy_bonus or grpo.entropy_target),
    )


def _forwards(recipe: Recipe) -> int:
    """Passes of a round without a backward pass: the reference's and the correction's log-probs once, the entropies of
    `top_entropy` before every pass that learns."""
    grpo = recipe.grpo
    once = bool(grpo.beta) + (grpo.correction != "none")
    return once + (grpo.iterations if grpo.top_entropy < 1 else 0)


def _evaluated(recipe: Recipe) -> int:
    """Completions of held-out cases that are sampled at once."""
    how = recipe.evaluation
    return (
        min(how.cases * how.samples, max(ROWS_PER_CHUNK, how.samples)) if how.every and recipe.rounds else 0
    )


@dataclass(frozen=True)
class Measured:
    """Measured memory of a model's computing.

    token: an update's activations for each token of a pack; fixed: and once. offloaded: for each token, in the
    computer's memory beside a GPU. head: a chunk of logits. prefill: for each prompt token. row: for each completion
    whose next token is chosen.
    """

    token: float
    fixed: float
    offloaded: float
    head: int
    prefill: float
    row: float


def need(counts: dict[str, int], measured: Measured, work: Work, *, fragmentation: float) -> dict[str, int]:
    """Every part and every sum by name. counts: the model's exact parts, and `process`.

    resident   process + weights + unpacked + adapters + reference + optimizer
    sampling   copies + kv_cache + the larger of prefill and choosing
    update     activations + head + gradients; of a single pack the larger of gradients and the rest
    least      resident + the larger of sampling and update: a run cannot succeed with less
    peak       least + heap; `offloaded` is in no sum
    """
    parts = {name: count for name, count in counts.items() if name != "kv_token"}
    parts["kv_cache"] = kv_cache(counts, work)
    parts["prefill"] = round(measured.prefill * work.prompts * work.prompt_tokens)
    parts["choosing"] = round(measured.row * max(work.prompts * work.group_size, work.evaluated))
    parts["activations"] = activations = round(measured.token * work.pack_tokens + measured.fixed)
    parts["head"], parts["heap"] = measured.head, round(fragmentation * activations)
    parts["offloaded"] = round(measured.offloaded * work.pack_tokens)

    always = ("process", "weights", "unpacked", "adapters", "reference", "optimizer")
    resident = sum(parts[name] for name in always)
    sampling = parts["copies"] + parts["kv_cache"] + max(parts["prefill"], parts["choosing"])
    # One pack's gradients appear while its activations are freed. With several packs gradients stay during the next
    # one.
    computed, gradients = activations + parts["head"], parts["gradients"]
    several = work.step_tokens > work.pack_tokens
    update = computed + gradients if several else max(computed, gradients)
    least = resident + max(sampling, update)
    sums = {"resident": resident, "sampling": sampling, "update": update, "least": least}
    return {**parts, **sums, "peak": least + parts["heap"]}


def kv_cache(counts: dict[str, int], work: Work) -> int:
    """The KV cache: of all completions, up to the sampler's limit, and of one completion at least."""
    everything = max(work.prompts * work.group_tokens, work.evaluated * work.sequence) * counts["kv_token"]
    return min(everything, max(KV_CACHE_BYTES, work.sequence * counts["kv_token"]))
