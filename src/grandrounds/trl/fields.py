"""Every field of TRL 1.16's GRPOConfig with TRL's default, and what becomes of it here.

A field belongs to exactly one class:

    mapped    it becomes keys of the recipe, or the trainer acts on it
    ignored   it is accepted and has no effect here, for the reason given
    refused   any other value than the default is an error that says why

A mapped field may still refuse some values: `translate` says which.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["mapped", "ignored", "refused"]


@dataclass(frozen=True)
class ConfigField:
    """One field. text: the recipe keys or what acts on it; why it has no effect; or why it is refused.

    copied: its value is the value of the one key that `text` names. hint: what to do instead of a refused value.
    """

    name: str
    default: Any
    kind: Kind
    text: str
    copied: bool = False
    hint: str = ""


def copied(**fields: tuple[Any, str]) -> Iterator[ConfigField]:
    """name=(default, recipe key): the value is the key's."""
    return (ConfigField(name, default, "mapped", key, True) for name, (default, key) in fields.items())


def mapped(**fields: tuple[Any, str]) -> Iterator[ConfigField]:
    """name=(default, recipe keys or what acts on it)."""
    return (ConfigField(name, default, "mapped", text) for name, (default, text) in fields.items())


def ignored(why: str, **fields: Any) -> Iterator[ConfigField]:
    """name=default, for one reason."""
    return (ConfigField(name, default, "ignored", why) for name, default in fields.items())


def refused(why: str, hint: str, **fields: Any) -> Iterator[ConfigField]:
    """name=default, for one reason."""
    return (ConfigField(name, default, "refused", why, hint=hint) for name, default in fields.items())


_BATCH = "grpo.cases_per_round, grpo.minibatches"
_LENGTH = "rounds"
_NO_VLLM = "completions come from the native engine, never from vLLM"
_SAMPLED_AS_TRAINED = (
    "the update learns from the distribution that was sampled, and a filter would make it another one"
)

GRPO_FIELDS: tuple[ConfigField, ...] = (
    *copied(
        learning_rate=(1e-6, "grpo.learning_rate"),
        num_generations=(8, "grpo.group_size"),
        temperature=(1.0, "grpo.temperature"),
        max_completion_length=(512, "grpo.max_new_tokens"),
        beta=(0.0, "grpo.beta"),
        num_iterations=(1, "grpo.iterations"),
        epsilon=(0.2, "grpo.clip_low"),
        delta=(None, "grpo.delta"),
        importance_sampling_level=("token", "grpo.ratio"),
        loss_type=("dapo", "grpo.loss"),
        mask_truncated_completions=(False, "grpo.mask_truncated"),
        top_entropy_quantile=(1.0, "grpo.top_entropy"),
        off_policy_mask_threshold=(None, "grpo.off_policy_limit"),
        trust_remote_code=(False, "policy.trust_remote_code"),
    ),
    *mapped(
        generation_batch_size=(None, _BATCH),
        steps_per_generation=(None, _BATCH),
        num_generations_eval=(None, "completions per prompt in evaluate()"),
        epsilon_high=(None, "grpo.clip_high; for cispo it is 1 + grpo.clip_high"),
        sapo_temperature_neg=(1.05, "grpo.loss_options, with loss_type=sapo"),
        sapo_temperature_pos=(1.0, "grpo.loss_options, with loss_type=sapo"),
        vespo_k_pos=(2.0, "grpo.loss_options, with loss_type=vespo"),
        vespo_lambda_pos=(3.0, "grpo.loss_options, with loss_type=vespo"),
        vespo_k_neg=(3.0, "grpo.loss_options, with loss_type=vespo"),
        vespo_lambda_neg=(2.0, "grpo.loss_options, with loss_type=vespo"),
        reward_weights=(None, "rewards.NAME.weight"),
        scale_rewards=("group", "grpo.advantage_scale"),
        multi_objective_aggregation=("sum_then_normalize", "grpo.aggregation"),
        use_bias_correction_kl=(True, "grpo.kl_correction, with beta above 0"),
        entropy_coef=(0.0, "grpo.entropy_bonus"),
        use_adaptive_entropy=(False, "grpo.entropy_target"),
        entropy_target=(0.2, "grpo.entropy_target, with use_adaptive_entropy"),
        entropy_coef_delta=(0.005, "grpo.entropy_bonus_step, with use_adaptive_entropy"),
        entropy_coef_max=(1.0, "grpo.entropy_bonus_max, with use_adaptive_entropy"),
        chat_template_kwargs=(None, "prompt.template_arguments"),
        model_init_kwargs=(None, "policy.precision, policy.quantize, policy.trust_remote_code"),
        remove_unused_columns=(False, "reward functions get no columns"),
        log_completions=(False, "output_dir/completions/completions_NNNNN.parquet; nothing is printed"),
    ),
    *ignored(_NO_VLLM, use_vllm=False, vllm_mode="colocate", vllm_model_impl="vllm"),
    *ignored(_NO_VLLM, vllm_enable_sleep_mode=False, vllm_server_base_url=None, vllm_server_host="0.0.0.0"),
    *ignored(_NO_VLLM, vllm_server_port=8000, vllm_server_timeout=240.0, vllm_group_port=51216),
    *ignored(_NO_VLLM, vllm_gpu_memory_utilization=0.3, vllm_max_model_length=None),
    *ignored(_NO_VLLM, vllm_tensor_parallel_size=1),
    *ignored(
        "sampler and learner share one set of weights and agree, so there is nothing to correct",
        vllm_importance_sampling_correction=True,
        vllm_importance_sampling_mode="sequence_mask",
        vllm_importance_sampling_clip_max=3.0,
        vllm_importance_sampling_clip_min=None,
        vllm_importance_sampling_cap=None,
    ),
    *ignored(
        "completions come from the native engine with a KV cache of its own",
        cache_implementation=None,
        use_transformers_continuous_batching=False,
        transformers_continuous_batching_config=None,
        use_transformers_paged=False,
    ),
    *ignored("a policy is never in training mode: dropout is always off", disable_dropout=False),
    *ignored("nothing is padded", pad_to_multiple_of="auto"),
    *ignored("there is no DeepSpeed", ds3_gather_for_generation=True),
    *ignored("completions are written to files, not printed", num_completions_to_print=None),
    *ignored("models read text alone", log_multimodal=True),
    *ignored("tables of completions have every sample of some prompts", log_unique_prompts=False),
    *ignored(
        "it belongs to sync_ref_model, which is refused", ref_model_mixup_alpha=0.6, ref_model_sync_steps=512
    ),
    *refused(_SAMPLED_AS_TRAINED, "Leave it out; lower temperature instead.", top_p=1.0, top_k=0, min_p=None),
    *refused(
        _SAMPLED_AS_TRAINED,
        "Leave it out; score repetition by a reward instead.",
        repetition_penalty=1.0,
    ),
    *refused(
        "the native engine takes no options of transformers' generate",
        "Leave it out.",
        generation_kwargs=None,
    ),
    *refused(
        "completions cannot be held to a pattern",
        "Score the form by a reward.",
        vllm_structured_outputs_regex=None,
    ),
    *refused("there are no tools", "Leave it out.", max_tool_calling_iterations=None),
    *refused(
        "the reference policy stays that of the start",
        "Leave it out, or train again from the last checkpoint.",
        sync_ref_model=False,
    ),
    *refused("the adaptive entropy bonus falls to 0", "Leave it out.", entropy_coef_min=0.0),
    *refused(
        "there is no load-balancing loss for mixtures of experts",
        "Leave it out, or set it to 0.",
        router_aux_loss_coef=None,
    ),
    *refused(
        "the head computes in the precision of the policy; its softmax always in float32",
        'Leave it out, or set model_init_kwargs={"dtype": "float32"}.',
        cast_lm_head_to_fp32=False,
    ),
    *refused(
        "prompts are always drawn in a shuffled order, another one each epoch",
        "Leave it out.",
        shuffle_dataset=True,
    ),
    *refused(
        "nothing is sent to the Hub",
        "Leave it out; the files are in output_dir/completions.",
        log_completions_hub_repo=None,
    ),
)
