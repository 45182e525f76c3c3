"""Every setting of a run: frozen, typed, and strict about unknown keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, create_model, model_validator
from pydantic_core import PydanticCustomError

from grandrounds.domain import CasesSection, Count, Fraction, Positive, Section, every, sections_of_cases
from grandrounds.recipe_guard import GuardRecipe
from grandrounds.recipe_switches import ignored, out_of_order

# Ratios of each token or of whole completions; estimates of the KL; corrections for a sampler that differs.
RatioLevel = Literal["token", "sequence"]
KlEstimate = Literal["k1", "k2", "k3"]
CorrectionKind = Literal["none", "token_truncate", "token_mask", "sequence_truncate", "sequence_mask"]
# The name in a run's saved recipe for an object that the caller passed in memory.
MEMORY = "memory"


class ExampleRecipe(Section):
    """One example of few-shot prompting."""

    question: str = Field(description="What the user says.")
    response: str = Field(description="What the model answers, tags included.")


class PromptRecipe(Section):
    """How cases are asked, and the form of the answer."""

    system: str | None = Field(
        None, description="System message; null uses the built-in one, an empty text sends none."
    )
    system_file: str | None = Field(
        None, description="A file with the system message; its text becomes `system` when the run begins."
    )
    examples: list[ExampleRecipe] = Field(
        [], description="Questions with responses, shown before each case: [{question: …, response: …}]."
    )
    raw: bool = Field(
        False,
        description="Give questions that are text to the model as they are: no chat template, system message, options "
        "or examples. Chats are asked as usual.",
    )
    template_arguments: dict[str, Any] = Field(
        {}, description="Switches of the model's chat template: {enable_thinking: false}."
    )
    reasoning_tag: str = Field(
        "reasoning", pattern=r"^[A-Za-z][A-Za-z0-9_-]*$", description="Tag around the reasoning."
    )
    answer_tag: str = Field(
        "answer", pattern=r"^[A-Za-z][A-Za-z0-9_-]*$", description="Tag around the answer."
    )


class ScratchRecipe(Section):
    """The small model built from the cases when `policy.model` is `scratch`."""

    layers: Positive = Field(4, description="Transformer layers.")
    hidden: Positive = Field(160, description="Width of the residual stream.")
    heads: Positive = Field(4, description="Attention heads.")
    feedforward: Positive = Field(480, description="Width of the feed-forward layer.")
    vocabulary: Positive = Field(
        2048, description="Largest vocabulary of the byte-level BPE tokenizer trained on the cases."
    )


class KernelsRecipe(Section):
    """Kernels that make a run fast, with one switch each. Without them a run is plain transformers."""

    shared_prefix: bool = Field(
        True, description="Compute a prompt once for all its completions, in sampling and in the update."
    )
    head: bool = Field(
        True, description="Compute log-probabilities in chunks, so that the full logits never exist."
    )
    fused: bool = Field(
        True, description="Compute norms, feed-forward blocks and linear layers as single autograd functions."
    )
    packed_weights: bool = Field(
        True, description="On a CPU: copy weights into oneDNN's layout while sampling."
    )
    cuda_graphs: bool = Field(
        True,
        description="On a GPU: capture decoding steps in a CUDA graph and replay them. Needs shared_prefix.",
    )


class PolicyRecipe(Section):
    """The model that is trained."""

    model: str = Field(
        "scratch",
        description="A folder with a model or a saved adapter, a Hub name, a GGUF file, or `scratch`.",
    )
    merge: bool = Field(
        False,
        description="Merge a saved adapter into its model first, and train a new one; else training goes on with it.",
    )
    adapter: Literal["lora", "full"] = Field(
        "lora", description="LoRA, or all weights. `scratch` always trains all."
    )
    lora_rank: Positive = Field(16, description="LoRA rank; a saved adapter keeps its own.")
    lora_alpha: Positive = Field(32, description="LoRA alpha; a saved adapter keeps its own.")
    lora_targets: Literal["all-linear"] | list[str] = Field(
        "all-linear", description="Modules that LoRA adapts; a saved adapter keeps its own."
    )
    precision: Literal["auto", "float32", "bfloat16", "float64"] = Field(
        "auto",
        description="Type of the weights; `auto` chooses by device, and by measurement for large models on a CPU.",
    )
    quantize: Literal["none", "4bit"] = Field(
        "none", description="`4bit`: store the frozen weights in 4 bits (NF4); LoRA only."
    )
    device: str = Field("auto", description="`auto`, `cpu`, `cuda`, `cuda:1`, `mps`.")
    recompute: Literal["auto", "nothing", "feed_forward", "layers", "offload"] = Field(
        "auto",
        description="What is recomputed in the backward pass: less memory, more time. `feed_forward`: the inside of "
        "feed-forward blocks and norm outputs (by kernels.fused). `layers`: whole layers. `offload`: as `layers`, "
        "their inputs in the computer's memory (GPU only). `auto`: `feed_forward` with LoRA, else `nothing`.",
    )
    trust_remote_code: bool = Field(
        False, description="Run Python code shipped with the model. Only if you trust it."
    )
    kernels: KernelsRecipe = KernelsRecipe()
    scratch: ScratchRecipe = ScratchRecipe()


class SftRecipe(Section):
    """Supervised fine-tuning on demonstrations: the warm-up before GRPO, or by itself."""

    steps: Count = Field(
        0, description="Optimizer steps; 0 skips the warm-up, and the other keys of `sft` do nothing."
    )
    batch_cases: Positive = Field(32, description="Cases per step.")
    learning_rate: float = Field(1e-3, gt=0, description="Peak learning rate; linear warm-up, cosine decay.")
    weight_decay: float = Field(0.01, ge=0, description="AdamW weight decay.")
    optimizer: Literal["adamw", "adamw_8bit", "muon"] = Field(
        "adamw",
        description="`adamw_8bit`: as in `grpo`. `muon`: for small models from scratch, which learn rare associations "
        "in fewer steps.",
    )
    reasoning: bool = Field(
        True,
        description="Train on the demonstration's reasoning and answer; false: on the gold answer alone.",
    )
    too_long: Literal["skip", "cut", "error"] = Field(
        "skip",
        description="Demonstrations longer than grpo.max_new_tokens: leave them out, cut their reasoning, or stop.",
    )


class GrpoRecipe(Section):
    """Group Relative Policy Optimization."""

    group_size: Annotated[int, Field(ge=2)] = Field(8, description="Completions per case (G).")
    cases_per_round: Positive = Field(32, description="Cases, hence groups, per round.")
    max_new_tokens: Positive = Field(256, description="Longest completion, in tokens.")
    temperature: float = Field(1.0, gt=0, description="Sampling temperature.")
    stop: list[Annotated[str, Field(min_length=1)]] = Field(
        [],
        description="Strings that end a completion, also in evaluation; they stay in its text. Example: </answer>.",
    )
    loss: str = Field(
        "dapo",
        description="The clipped objective averaged as grpo, bnpo, dr_grpo or dapo do; cispo, sapo, luspo, vespo; or "
        "your own loss: `package.module:NAME`, `file.py:NAME`.",
    )
    loss_options: dict[str, float] = Field(
        {}, description="Settings of this loss alone: {temperature_negative: 1.1} of sapo."
    )
    ratio: RatioLevel = Field(
        "token",
        description="Ratios to the policy that sampled: of each token, or of whole completions (GSPO).",
    )
    advantage_scale: Literal["group", "batch", "none"] = Field(
        "group",
        description="What advantages are divided by: the standard deviation of the group or of the batch, or nothing.",
    )
    aggregation: Literal["sum_then_normalize", "normalize_then_sum"] = Field(
        "sum_then_normalize",
        description="How components become advantages: their weighted sum is compared within the group, or each is "
        "compared by itself and the results are summed and scaled over the batch (GDPO).",
    )
    baseline: Literal["mean", "leave_one_out"] = Field(
        "mean",
        description="What is subtracted from a reward: the group's mean, or the mean of the group's other completions.",
    )
    clip_low: float = Field(
        0.2,
        ge=0,
        description="Lower clip of the ratio; cispo, sapo and vespo do not clip, and only count what it would.",
    )
    clip_high: float = Field(
        0.28,
        ge=0,
        description="Upper clip of the ratio (clip-higher); sapo and vespo only count what it would.",
    )
    delta: float | None = Field(
        None, gt=1, description="The largest ratio of completions worse than their group (two-sided clip)."
    )
    off_policy_limit: float | None = Field(
        None,
        gt=0,
        description="Leave out completions worse than their group whose mean log-ratio to the policy that sampled them "
        "is larger.",
    )
    beta: float = Field(0.0, ge=0, description="Weight of the KL to the reference policy.")
    kl: KlEstimate = Field("k3", description="How that KL is estimated from sampled tokens.")
    kl_correction: bool = Field(
        False, description="Multiply that estimate by the ratio, which makes its gradient unbiased."
    )
    entropy_bonus: float = Field(
        0.0,
        ge=0,
        description="Weight of the mean entropy of tokens, which is ascended: keeps the policy exploring.",
    )
    entropy_target: float | None = Field(
        None,
        gt=0,
        description="In nats: `entropy_bonus` then adapts. It grows by a step after an update whose tokens have at "
        "most this entropy, shrinks after any other, and is applied while the entropy is that low.",
    )
    entropy_bonus_step: float = Field(0.005, gt=0, description="That step.")
    entropy_bonus_max: float = Field(1.0, gt=0, description="The largest weight that it grows to.")
    top_entropy: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Learn from this share of an update's tokens alone, those where the policy is least certain; costs "
        "one more forward pass.",
    )
    correction: CorrectionKind = Field(
        "none",
        description="For a sampler of your own whose log-probs are not the policy's: weights by their ratio, of each "
        "token or of the whole completion, truncated to its bounds or 0 outside of them.",
    )
    correction_high: float = Field(3.0, gt=0, description="The upper bound of that ratio.")
    correction_low: float | None = Field(None, gt=0, description="Its lower bound, if there is one.")
    iterations: Positive = Field(1, description="Passes over a round's completions (mu).")
    minibatches: Positive = Field(1, description="Optimizer steps per pass.")
    mask_truncated: bool = Field(False, description="Leave cut-off completions out of the loss.")
    dynamic_sampling: Count = Field(
        0, description="Extra sampling attempts per round to replace groups without signal; 0 is off."
    )
    optimizer: Literal["adamw", "adamw_8bit"] = Field(
        "adamw",
        description="`adamw_8bit`: stores AdamW's two moments in 8 bits a number, about a quarter of the memory.",
    )
    learning_rate: float = Field(1e-5, gt=0, description="AdamW learning rate, after the warm-up.")
    warmup_rounds: Count = Field(0, description="Rounds of linear learning-rate warm-up.")
    schedule: Literal["constant", "linear", "cosine"] = Field(
        "constant",
        description="Learning rate after the warm-up: constant, or decayed until the last round.",
    )
    learning_rate_end: Fraction = Field(
        0.1, description="What `linear` and `cosine` decay to, as a share of the learning rate."
    )
    schedule_by: Literal["round", "step"] = Field(
        "round",
        description="`round`: one rate a round, that of its end. `step`: one for each optimizer step, that of its "
        "beginning, as transformers' schedules count; a warm-up then begins at 0.",
    )
    weight_decay: float = Field(0.0, ge=0, description="AdamW weight decay.")
    adam_beta1: float = Field(0.9, ge=0, lt=1, description="AdamW's decay of the gradient's mean.")
    adam_beta2: float = Field(0.95, ge=0, lt=1, description="AdamW's decay of the gradient's mean square.")
    max_grad_norm: float = Field(1.0, gt=0, description="Gradients are clipped to this norm.")
    tokens_per_pack: Positive = Field(
        4096,
        description="Tokens in one forward and backward pass of the update; changes memory, not the result.",
    )


class RewardRecipe(Section):
    """One reward component."""

    use: str | None = Field(
        None,
        description="Built-in name, `package.module:function`, `file.py:function`, or `classifier:MODEL`, a sequence "
        "classifier; default: the component's name.",
    )
    completions: Literal["auto", "text", "chat"] = Field(
        "auto",
        description="What a function in TRL's form gets: texts, or lists of messages. `auto`: as the question is.",
    )
    weight: float = Field(1.0, description="Weight in the sum.")
    gate: bool = Field(False, description="Multiply the sum by this component instead of adding it.")
    options: dict[str, Any] = Field({}, description="Keyword arguments of the component.")
    timeout_seconds: float = Field(
        60.0,
        gt=0,
        description="Time limit of one call of your own function, of a judge or of `math`; a longer call is an error.",
    )
    memory_gb: float = Field(
        4.0,
        gt=0,
        description="Memory limit of your own function's process and its children together, in GiB; a coroutine, a "
        "classifier and a function in memory run in the run's own process, without a limit.",
    )
    retries: Count = Field(
        1, description="How often a failed call of your own function or of a judge is repeated."
    )


class CheckpointRecipe(Section):
    """When the run is saved."""

    every: Positive = Field(
        20, description="Rounds between checkpoints. The cold start and the last round are always saved."
    )
    keep: Positive = Field(3, description="Newest checkpoints kept, besides the cold start.")


class EvaluationRecipe(Section):
    """How a policy is evaluated."""

    samples: Positive = Field(1, description="Completions per case; 1 decodes greedily.")
    temperature: float = Field(1.0, gt=0, description="Temperature where samples > 1.")
    top_p: float = Field(1.0, gt=0, le=1, description="Top-p where samples > 1.")
    top_k: Count = Field(0, description="Top-k where samples > 1.")
    min_p: Fraction = Field(0.0, description="Min-p where samples > 1.")
    max_new_tokens: Positive | None = Field(None, description="Longest completion; default: as in training.")
    every: Count = Field(
        0,
        description="While training: rounds between evaluations on the validation cases, or on held-out ones where "
        "there are none, and one at the start; 0: none.",
    )
    cases: Positive = Field(
        100, description="While training, with `every`: how many of these cases, the same ones each time."
    )
    best: Literal["accuracy", "format_rate", "consistency", "evidence", "validity_given_correct"] = Field(
        "accuracy",
        description="While training: the measure by which the best policy is kept in checkpoints/best.",
    )
    patience: Count = Field(
        0, description="While training: stop after so many evaluations without a better policy; 0: never."
    )


class RolloutsRecipe(Section):
    """What is kept of every completion."""

    tokens: bool = Field(
        False,
        description="Keep each token's id and log-probability too, so that `grandrounds view` can shade tokens.",
    )


# Domains are loaded last: their modules may import the sections above.
if TYPE_CHECKING:
    _Keys = CasesSection
else:
    _Keys = create_model("_Keys", __base__=(*sections_of_cases(), CasesSection))
_Format: Any = Literal["auto", "own", "trl", *every("formats")]  # type: ignore[valid-type]


class CasesRecipe(_Keys):
    """The section `cases`: the keys that every source has, and those that domains add."""

    format: _Format = Field("auto", description="The source's format; `auto` recognises it by its columns.")


class Recipe(Section):
    """Every setting of a run."""

    name: str = Field("run", description="The run's name; names its folder.")
    seed: Count = Field(0, description="Seed of everything random.")
    rounds: Count = Field(100, description="Rounds of GRPO.")
    cases: CasesRecipe = CasesRecipe()
    prompt: PromptRecipe = PromptRecipe()
    policy: PolicyRecipe = PolicyRecipe()
    sft: SftRecipe = SftRecipe()
    grpo: GrpoRecipe = GrpoRecipe()
    rewards: dict[str, RewardRecipe] = Field(
        {"accuracy": RewardRecipe(weight=1.0), "format": RewardRecipe(weight=0.2)},
        description="Components by name.",
    )
    checkpoint: CheckpointRecipe = CheckpointRecipe()
    evaluation: EvaluationRecipe = EvaluationRecipe()
    guard: GuardRecipe = GuardRecipe()
    rollouts: RolloutsRecipe = RolloutsRecipe()

    @model_validator(mode="after")
    def _tags_differ(self) -> Recipe:
        if self.prompt.reasoning_tag == self.prompt.answer_tag:
            raise ValueError("prompt.reasoning_tag and prompt.answer_tag must differ")
        return self

    @model_validator(mode="after")
    def _nothing_is_ignored(self) -> Recipe:
        for key, value, switch in ignored(self):
            raise PydanticCustomError(
                "without_switch",
                "`{key}` is {value}, but does nothing without `{switch}`",
                {"key": key, "value": repr(value), "switch": switch},
            )
        return self

    @model_validator(mode="after")
    def _bounds_are_in_order(self) -> Recipe:
        if mistake := out_of_order(self.grpo):
            raise ValueError(mistake)
        return self

    @model_validator(mode="after")
    def _components_compared_by_themselves_have_one_scale(self) -> Recipe:
        grpo = self.grpo
        if grpo.aggregation == "sum_then_normalize":
            return self
        if grpo.advantage_scale != "group" or grpo.baseline != "mean":
            raise ValueError(
                "grpo.aggregation: normalize_then_sum has a scale and a baseline of its own; leave out "
                "grpo.advantage_scale and grpo.baseline"
            )
        if gates := [name for name, reward in self.rewards.items() if reward.gate]:
            raise ValueError(
                f"grpo.aggregation: normalize_then_sum compares components one by one, but the gate rewards.{gates[0]} "
                "multiplies their sum"
            )
        return self

    @model_validator(mode="after")
    def _quantised_weights_are_not_trained(self) -> Recipe:
        policy = self.policy
        if policy.quantize == "4bit" and policy.adapter == "full":
            raise ValueError("policy.quantize: 4bit trains LoRA only, but policy.adapter is full")
        if policy.quantize == "4bit" and policy.precision == "float64":
            raise ValueError("policy.quantize: 4bit computes in bfloat16 or float32, not in float64")
        return self

    @model_validator(mode="after")
    def _feed_forward_blocks_are_recomputed_by_a_kernel(self) -> Recipe:
        if self.policy.recompute == "feed_forward" and not self.policy.kernels.fused:
            raise ValueError("policy.recompute: feed_forward is done by policy.kernels.fused, which is off")
        return self

    @model_validator(mode="after")
    def _eight_bit_moments_are_computed_in_float32(self) -> Recipe:
        for name, section in (("sft", self.sft), ("grpo", self.grpo)):
            if section.optimizer == "adamw_8bit" and self.policy.precision == "float64":
                raise ValueError(f"{name}.optimizer: adamw_8bit computes in float32, not in float64")
        return self
