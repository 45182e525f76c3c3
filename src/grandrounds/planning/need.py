"""How much memory a run needs, by part: arithmetic on a model's shape and a round's work.

    resident   process + weights + unpacked + adapters + reference + optimizer
    sampling   copies + store + max(prefill, choosing)
    update     gradients + activations + max(layer, head)
    peak       resident + max(sampling, update) + heap
    offloaded  beside the peak, in the computer's memory rather than the device's

It is the peak of a round whose prompts are all as long as the longest and whose completions are all as long as
allowed. All sizes are bytes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from grandrounds.kernels.head import CHUNK_BYTES, CPU_COLUMNS, chunk_rows
from grandrounds.policy.model import Recompute
from grandrounds.policy.recompute import ASIDE
from grandrounds.recipe import Recipe
from grandrounds.sampling.batch import STORE_BYTES
from grandrounds.sampling.native import rows_at_once
from grandrounds.sampling.prefill import PREFILL_TOKENS

# glibc's heap cannot hand a freed block out again for one of the same size: torch asks for multiples of 64 bytes, so
# each block begins with a gap of up to 48 bytes, and small objects settle in the gaps. Holes stay, and count. The
# shares are of what lives, as measured (docs/PERFORMANCE.md): more with LoRA, where more passes than is kept, and of
# its size in float32, since what passes is often that. Blocks that are mapped leave none.
LARGEST_HEAP_BLOCK = 32 * 2**20
HEAP_SHARE, HEAP_SHARE_LORA, MAPPED_SHARE = 0.35, 1.0, 0.1
# Scores of a decoding step at once where attention is not fused: as they come, masked, and their softmax, twice.
SCORES = 4
# Choosing a token takes the logits, their scaled copy, the probabilities and the cumulative ones.
LOGITS = 4


@dataclass(frozen=True)
class Shape:
    """A model in the numbers that memory depends on; bytes, in the run's precision.

    weights: of all parameters but the adapters'. unpacked: of 4-bit weights, the largest layer's as a product needs it.
    trained: of the parameters that are trained. moments: of the optimizer's state. element: of one weight.
    kept, passing, prefill: for each token forwarded at once; fixed: of a layer at work (`rehearsal.TokenCosts`).
    copies: of weights, packed for sampling on a CPU. store: keys and values of one token in all layers.
    context: the longest sequence, in tokens. recompute: what the update computes again.
    """

    weights: int
    unpacked: int
    adapters: int
    trained: int
    moments: int
    element: int
    vocabulary: int
    hidden: int
    layers: int
    query_heads: int
    context: int
    copies: int
    store: int
    kept: float
    passing: float
    prefill: float
    fixed: float
    recompute: Recompute = "nothing"

    @property
    def whole(self) -> bool:
        """Whether all weights are trained."""
        return not self.adapters

    @property
    def offloaded(self) -> int:
        """Of one token, in the computer's memory until the backward pass: each layer's input."""
        return self.layers * self.hidden * self.element if self.recompute == "offload" else 0


@dataclass(frozen=True)
class Work:
    """What a round asks of a model.

    prompts (N) of at most prompt_tokens (P) each, group_size (G) completions of each, of at most new_tokens (T).
    steps: optimizer steps that the N groups are spread over. reference: whether one is kept beside the policy.
    demonstrations: of one step of the warm-up; 0 without one. eight_bits: whether the optimizer keeps its moments in 8
    bits, in the warm-up too where there is one.
    """

    prompts: int
    prompt_tokens: int
    group_size: int
    new_tokens: int
    tokens_per_pack: int
    steps: int = 1
    reference: bool = False
    demonstrations: int = 0
    eight_bits: bool = False

    @property
    def group_tokens(self) -> int:
        """Tokens of a prompt and its completions."""
        return self.prompt_tokens + self.group_size * self.new_tokens

    @property
    def shortest_pack(self) -> int:
        """A pack holds a prompt and a completion at least, whatever the recipe allows."""
        return self.prompt_tokens + self.new_tokens

    @property
    def step_tokens(self) -> int:
        """Tokens forwarded for one optimizer step."""
        warmup = self.demonstrations * self.shortest_pack
        return max(-(-self.prompts // self.steps) * self.group_tokens, warmup)

    @property
    def pack_tokens(self) -> int:
        """Tokens of the largest pack."""
        return min(max(self.tokens_per_pack, self.shortest_pack), self.step_tokens)


@dataclass(frozen=True)
class Need:
    """The parts, in bytes. several_packs: whether a pack's gradients stay while the next pack is computed.

    offloaded: activations that wait in the computer's memory, not in the device's.
    """

    process: int
    weights: int
    unpacked: int
    adapters: int
    reference: int
    optimizer: int
    copies: int
    store: int
    prefill: int
    choosing: int
    gradients: int
    activations: int
    layer: int
    head: int
    heap: int
    offloaded: int
    several_packs: bool

    @property
    def resident(self) -> int:
        """What is there all the time."""
        weights = self.weights + self.unpacked + self.adapters + self.reference
        return self.process + weights + self.optimizer

    @property
    def sampling(self) -> int:
        """What sampling takes on top."""
        return self.copies + self.store + max(self.prefill, self.choosing)

    @property
    def update(self) -> int:
        """What the update takes on top. A single pack's gradients come as its activations go; with several, the former
        packs' are there already."""
        computed = self.activations + max(self.layer, self.head)
        return computed + self.gradients if self.several_packs else max(computed, self.gradients)

    @property
    def peak(self) -> int:
        """The most there is at any moment. Holes that the update leaves are there while the next round is sampled."""
        return self.least + self.heap

    @property
    def least(self) -> int:
        """The peak if the heap had no holes: with less, the run cannot succeed."""
        return self.resident + max(self.sampling, self.update)


def work_of(recipe: Recipe, prompt_tokens: int, cases: int | None = None) -> Work:
    """A round of the recipe on prompts of this length; cases: how many there are to draw from, if known."""
    grpo = recipe.grpo
    prompts = min(grpo.cases_per_round, cases or grpo.cases_per_round)
    optimizers = {recipe.sft.optimizer} if recipe.sft.steps else set()
    optimizers |= {grpo.optimizer} if recipe.rounds else set()
    return Work(
        prompts=prompts if recipe.rounds else 0,
        prompt_tokens=prompt_tokens,
        group_size=grpo.group_size,
        new_tokens=grpo.max_new_tokens,
        tokens_per_pack=grpo.tokens_per_pack,
        steps=max(1, min(grpo.minibatches, prompts)),
        reference=grpo.beta > 0,
        demonstrations=recipe.sft.batch_cases if recipe.sft.steps else 0,
        eight_bits=optimizers == {"adamw_8bit"},
    )


def need(shape: Shape, work: Work, *, process: int, on_cpu: bool = True) -> Need:
    """The memory of a round; process: what the process itself takes before a model is loaded."""
    tokens = work.pack_tokens
    activations, layer = round(shape.kept * tokens), round(shape.passing * tokens + shape.fixed)
    copies = 0 if on_cpu else _prompt_copies(shape, work)
    if shape.recompute in ASIDE:  # a layer's are gone when it is done
        layer += copies // shape.layers
    else:
        activations += copies
    share = _heap_share(shape, tokens) if on_cpu else 0.0
    return Need(
        process=process,
        weights=shape.weights,
        unpacked=shape.unpacked,
        adapters=shape.adapters,
        reference=shape.weights if work.reference and shape.whole else 0,
        optimizer=shape.moments,
        copies=shape.copies if on_cpu else 0,
        gradients=shape.trained,
        activations=activations,
        layer=layer,
        head=_head(shape, work),
        heap=round(share * (activations + layer)),
        offloaded=tokens * shape.offloaded,
        several_packs=work.step_tokens > tokens,
        **_sampling(shape, work),
    )


def _sampling(shape: Shape, work: Work) -> dict[str, int]:
    """Keys and values of the rows decoded together; then their prompts' layers, or a step's scores and logits."""
    everything = work.prompts * work.group_tokens * shape.store
    store = min(everything, max(STORE_BYTES, work.shortest_pack * shape.store))  # a row at least
    share = store / max(1, everything)
    groups, rows = (math.ceil(share * most) for most in (work.prompts, work.prompts * work.group_size))
    at_once = min(groups * work.prompt_tokens, max(PREFILL_TOKENS, work.prompt_tokens))
    scores = rows * shape.query_heads * (work.prompt_tokens + work.new_tokens) * 4
    logits = min(rows, rows_at_once(shape.vocabulary)) * shape.vocabulary * 4
    return {
        "store": store,
        "prefill": round(at_once * shape.prefill),
        "choosing": max(SCORES * scores, LOGITS * logits),
    }


def _head(shape: Shape, work: Work) -> int:
    """Logits, narrowed where weights are or beside some logarithms; the states' gradients. A trained head once more,
    with its own gradients in both precisions; a frozen one not: it takes the states' gradients as it goes forward."""
    tokens, precise = work.pack_tokens, max(4, shape.element)
    rows = min(chunk_rows(shape.vocabulary), tokens)
    logits = rows * shape.vocabulary
    product = rows * min(shape.vocabulary, CPU_COLUMNS) * shape.element
    narrow = 0 if shape.element == precise else logits * shape.element
    forward = logits * precise + max(narrow, product, min(logits * precise, CHUNK_BYTES))
    states = tokens * shape.hidden * shape.element
    if not shape.whole:
        return forward + states
    gradients = shape.vocabulary * shape.hidden * (precise if narrow == 0 else precise + shape.element)
    return max(forward, logits * precise + narrow + gradients + states)


def _heap_share(shape: Shape, tokens: int) -> float:
    if tokens * shape.hidden * shape.element > LARGEST_HEAP_BLOCK:
        return MAPPED_SHARE
    share = HEAP_SHARE if shape.whole else HEAP_SHARE_LORA
    return share * max(4, shape.element) / shape.element


def _prompt_copies(shape: Shape, work: Work) -> int:
    """Away from the CPU, each completion attends to a copy of its prompt's keys and values of its own."""
    groups = max(1, work.pack_tokens // work.group_tokens)
    return groups * (work.group_size - 1) * work.prompt_tokens * shape.store
