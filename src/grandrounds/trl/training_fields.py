"""The fields that GRPOConfig inherits from transformers' TrainingArguments, with TRL's defaults."""

from __future__ import annotations

from grandrounds.trl.fields import GRPO_FIELDS, ConfigField, copied, ignored, mapped, refused

_ONE_PROCESS = "one process trains on one device"
_PRECISION = "policy.precision decides: by device, and by measurement for large models on a CPU"
_RECOMPUTE = "policy.recompute decides what is computed again in the backward pass"
_SPEED = "kernels of our own do this"
_NO_LOADER = "there is no data loader: prompts are in memory"
_TRACKIO = "Trackio is set by its own variables: TRACKIO_PROJECT, TRACKIO_SPACE_ID, TRACKIO_SERVER_URL"
_HUB = "nothing is pushed to the Hub"
_WORDS = "what is shown is plain lines"

TRAINING_FIELDS: tuple[ConfigField, ...] = (
    *copied(
        seed=(42, "seed"),
        weight_decay=(0.0, "grpo.weight_decay"),
        adam_beta1=(0.9, "grpo.adam_beta1"),
        adam_beta2=(0.999, "grpo.adam_beta2"),
        max_grad_norm=(1.0, "grpo.max_grad_norm"),
    ),
    *mapped(
        output_dir=(None, "the run's folder is output_dir/run"),
        run_name=(None, "name"),
        report_to=("none", "trackers of `train`; of a recipe, `grandrounds train --track NAME`"),
        per_device_train_batch_size=(8, "grpo.cases_per_round, grpo.minibatches"),
        gradient_accumulation_steps=(1, "grpo.cases_per_round, grpo.minibatches"),
        num_train_epochs=(3.0, "rounds"),
        max_steps=(-1, "rounds"),
        lr_scheduler_type=("linear", "grpo.schedule, grpo.learning_rate_end"),
        lr_scheduler_kwargs=(None, "grpo.learning_rate_end"),
        warmup_steps=(0, "grpo.warmup_rounds"),
        optim=("adamw_torch_fused", "grpo.optimizer"),
        use_cpu=(False, "policy.device"),
        bf16=(None, "policy.precision: float32 where it is False, else auto"),
        logging_strategy=("steps", "when numbers are logged"),
        logging_steps=(10, "when numbers are logged"),
        logging_first_step=(False, "when numbers are logged"),
        eval_strategy=("no", "when evaluate() is called"),
        eval_steps=(None, "when evaluate() is called"),
        save_strategy=("steps", "checkpoint.every"),
        save_steps=(500, "checkpoint.every"),
        save_total_limit=(None, "checkpoint.keep"),
    ),
    *ignored(_PRECISION, fp16=False, bf16_full_eval=False, fp16_full_eval=False, tf32=None),
    *ignored(
        _RECOMPUTE,
        gradient_checkpointing=True,
        gradient_checkpointing_kwargs=None,
        activation_checkpointing=None,
        activation_checkpointing_kwargs=None,
    ),
    *ignored(
        _SPEED,
        torch_compile=False,
        torch_compile_backend=None,
        torch_compile_mode=None,
        use_liger_kernel=False,
        liger_kernel_config=None,
        use_cache=False,
        torch_empty_cache_steps=None,
    ),
    *ignored("means are always over all tokens", average_tokens_across_devices=True),
    *ignored(
        "every number is logged, from this one process",
        log_on_each_node=True,
        logging_nan_inf_filter=True,
        include_num_input_tokens_seen="no",
        skip_memory_metrics=True,
        debug="",
    ),
    *ignored(_WORDS, log_level="passive", log_level_replica="warning", disable_tqdm=None),
    *ignored(
        _TRACKIO,
        project="huggingface",
        trackio_space_id=None,
        trackio_bucket_id=None,
        trackio_static_space_id=None,
    ),
    *ignored(
        "prompts are evaluated all at once",
        per_device_eval_batch_size=8,
        prediction_loss_only=False,
        eval_do_concat_batches=True,
        eval_use_gather_object=False,
        eval_accumulation_steps=None,
        include_for_metrics=(),
        batch_eval_metrics=False,
    ),
    *ignored(
        "a checkpoint always holds the optimizer's state, so that the run can be resumed",
        save_only_model=False,
        save_on_each_node=False,
        enable_jit_checkpoint=False,
        ignore_data_skip=False,
    ),
    *ignored(
        _HUB,
        hub_token=None,
        hub_private_repo=None,
        hub_model_id=None,
        hub_strategy="every_save",
        hub_always_push=False,
        hub_revision=None,
    ),
    *ignored(
        "it belongs to load_best_model_at_end, which is refused",
        metric_for_best_model=None,
        greater_is_better=None,
    ),
    *ignored("everything random is drawn from the seed by name", full_determinism=False),
    *ignored(
        _NO_LOADER,
        dataloader_drop_last=False,
        dataloader_num_workers=0,
        dataloader_pin_memory=True,
        dataloader_persistent_workers=False,
        dataloader_prefetch_factor=None,
        dataloader_multiprocessing_context=None,
        dataloader_in_order=True,
        label_names=None,
        length_column_name="length",
    ),
    *ignored(
        _ONE_PROCESS,
        local_rank=-1,
        ddp_find_unused_parameters=None,
        ddp_bucket_cap_mb=None,
        ddp_broadcast_buffers=None,
        ddp_static_graph=None,
        ddp_backend=None,
        ddp_timeout=1800,
    ),
    *ignored("train() and evaluate() do what they are called for", do_train=False, do_eval=False),
    *ignored("train() and evaluate() do what they are called for", do_predict=False),
    *ignored("pass it to train(resume_from_checkpoint=…), as for TRL", resume_from_checkpoint=None),
    *refused(
        _ONE_PROCESS,
        "Leave it out, and start the script with python rather than accelerate launch.",
        fsdp=None,
        fsdp_config=None,
        deepspeed=None,
        accelerator_config=None,
        parallelism_config=None,
    ),
    *refused("AdamW's epsilon is 1e-8", "Leave it out.", adam_epsilon=1e-8),
    *refused(
        "AdamW is the optimizer, and takes no further arguments",
        "Leave it out.",
        optim_args=None,
        optim_target_modules=None,
    ),
    *refused("GRPO has no labels to smooth", "Leave it out.", label_smoothing_factor=0.0),
    *refused("embeddings get no noise", "Leave it out.", neftune_noise_alpha=None),
    *refused(
        "another batch size would break up groups",
        "Leave it out; grpo.tokens_per_pack limits memory without changing the result.",
        auto_find_batch_size=False,
    ),
    *refused("one seed determines everything", "Leave it out; set seed.", data_seed=None),
    *refused("prompts are drawn in a shuffled order", "Leave it out.", train_sampling_strategy="random"),
    *refused(
        "evaluation begins with the first eval_steps",
        "Leave it out.",
        eval_on_start=False,
        eval_delay=0,
    ),
    *refused(
        "the last policy is kept, and every checkpoint that save_total_limit allows",
        "Leave it out, and choose a checkpoint by state.log_history.",
        load_best_model_at_end=False,
    ),
    *refused(
        "callbacks' own state is not saved",
        "Leave it out.",
        restore_callback_states_from_checkpoint=False,
    ),
    *refused(
        "nothing is pushed to the Hub",
        "Leave it out; push the saved folder: `hf upload NAME FOLDER`.",
        push_to_hub=False,
    ),
)

FIELDS: dict[str, ConfigField] = {field.name: field for field in (*GRPO_FIELDS, *TRAINING_FIELDS)}

# Names of earlier versions of TRL and transformers, which 1.16 no longer takes -> what to do.
FORMER = {
    "max_prompt_length": "TRL dropped it: prompts are not cut. Leave it out.",
    "warmup_ratio": "transformers dropped it: warmup_steps below 1 is a share of all steps.",
    "evaluation_strategy": "It is eval_strategy.",
    "overwrite_output_dir": "transformers dropped it. Leave it out: a new run gets a folder of its own.",
    "logging_dir": "transformers dropped it. Leave it out.",
    "no_cuda": "It is use_cpu.",
    "save_safetensors": "transformers dropped it: safetensors is the only format. Leave it out.",
    "group_by_length": "transformers dropped it. Leave it out.",
    "max_seq_length": "Leave it out: max_completion_length limits completions.",
    "wandb_log_unique_prompts": "It is log_unique_prompts.",
    "use_liger_loss": "TRL dropped it. Leave it out.",
    "vllm_device": "TRL dropped it. Leave it out.",
    "vllm_dtype": "TRL dropped it. Leave it out.",
    "vllm_max_model_len": "It is vllm_max_model_length.",
    "vllm_guided_decoding_regex": "It is vllm_structured_outputs_regex.",
    "ref_model_init_kwargs": "TRL has no such field. Leave it out.",
    "generation_batch": "It is generation_batch_size.",
}
