"""Folders of tiny models with random weights, one for each family that is meant to work, as the Hub has them.

A folder holds what `save_pretrained` writes: config, generation config, safetensors, tokenizer, and a chat template
of the family's kind. The templates are short ones of our own; what they have in common with the families' is what
matters here: special tokens, who may speak, what is opened already, and which tokens end a turn.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PhiConfig,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

VOCABULARY = 320  # bytes, specials and a few dozen merges
CONTEXT = 2048
LINES = (
    "A woman of 40 has chest pain and no fever. What is the diagnosis?",
    "Give the reasoning in <reasoning> and the answer in <answer>.",
    "Findings: chest pain; sweating; no fever. Conclusion: pericarditis.",
)

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
THINKING = CHATML.replace("assistant\\n'", "assistant\\n<think>\\n'")
HEADERS = (
    "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\\n\\n'"
    " + m['content'] + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)
TURNS = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}"
    "{{ '<start_of_turn>' + role + '\\n' + m['content'] + '<end_of_turn>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)
INSTRUCTIONS = (
    "{{ bos_token }}{% set system = namespace(text='') %}{% for m in messages %}"
    "{% if m['role'] == 'system' %}{% set system.text = m['content'] + '\\n\\n' %}"
    "{% elif m['role'] == 'user' %}{{ '[INST] ' + system.text + m['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}"
)
ROLES = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\\n' + m['content'] + '<|end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)


@dataclass(frozen=True)
class Family:
    """A configuration and the way its chats are written.

    special: its special tokens, those that play a part among them.
    ends: the end tokens of generation_config.json.
    """

    config: type[PretrainedConfig]
    options: dict[str, Any]
    template: str
    special: tuple[str, ...]
    eos: str
    pad: str
    ends: tuple[str, ...]
    bos: str | None = None


SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": CONTEXT,
    # Wide enough for likely and unlikely tokens; with the usual 0.02 a tiny model's logits are all alike.
    "initializer_range": 0.2,
}
GROUPED = {**SHAPE, "num_key_value_heads": 2}
GEMMA = {**GROUPED, "head_dim": 8}
CHATML_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
GEMMA_TOKENS = ("<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>")
LLAMA_TOKENS = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
)


def _chatml(config: type[PretrainedConfig], options: dict[str, Any], template: str = CHATML) -> Family:
    return Family(
        config,
        options,
        template,
        CHATML_TOKENS,
        "<|im_end|>",
        "<|endoftext|>",
        ("<|im_end|>", "<|endoftext|>"),
    )


def _gemma(config: type[PretrainedConfig], options: dict[str, Any]) -> Family:
    return Family(
        config, options, TURNS, GEMMA_TOKENS, "<eos>", "<pad>", ("<eos>", "<end_of_turn>"), bos="<bos>"
    )


FAMILIES = {
    "llama": Family(
        LlamaConfig,
        GROUPED,
        HEADERS,
        LLAMA_TOKENS,
        eos="<|eot_id|>",
        pad="<|eot_id|>",
        ends=("<|end_of_text|>", "<|eot_id|>"),
        bos="<|begin_of_text|>",
    ),
    "qwen2": _chatml(Qwen2Config, {**GROUPED, "tie_word_embeddings": True}),
    "qwen3": _chatml(Qwen3Config, {**GROUPED, "head_dim": 16}, THINKING),
    "gemma": _gemma(GemmaConfig, GEMMA),
    "gemma2": _gemma(
        Gemma2Config,
        {
            **GEMMA,
            "sliding_window": 12,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 5.0,
            "query_pre_attn_scalar": 8,
        },
    ),
    "gemma3": _gemma(
        Gemma3TextConfig,
        {
            **GEMMA,
            "sliding_window": 12,
            "layer_types": ["sliding_attention", "full_attention"],
            "query_pre_attn_scalar": 8,
        },
    ),
    "mistral": Family(
        MistralConfig,
        {**GROUPED, "sliding_window": 16},
        INSTRUCTIONS,
        ("<unk>", "<s>", "</s>", "[INST]", "[/INST]"),
        eos="</s>",
        pad="</s>",
        ends=("</s>",),
        bos="<s>",
    ),
    "phi": Family(
        PhiConfig,
        {**SHAPE, "resid_pdrop": 0.1, "partial_rotary_factor": 0.5},
        CHATML,
        CHATML_TOKENS,
        eos="<|endoftext|>",
        pad="<|endoftext|>",
        ends=("<|endoftext|>",),
    ),
    "phi3": Family(
        Phi3Config,
        {**GROUPED, "original_max_position_embeddings": CONTEXT},
        ROLES,
        ("<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
        eos="<|endoftext|>",
        pad="<|endoftext|>",
        ends=("<|endoftext|>", "<|assistant|>", "<|end|>"),
    ),
}


def tiny_tokenizer(family: Family, lines: Sequence[str] = LINES) -> PreTrainedTokenizerFast:
    """Byte-level BPE with the family's special tokens and chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(family.special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(lines, trainer)
    parts = {"eos_token": family.eos, "pad_token": family.pad}
    if family.bos:
        parts["bos_token"] = family.bos
        # As the families' own do: plain texts get a <bos>, to which the template's must not be added.
        begin = (family.bos, tokenizer.token_to_id(family.bos))
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{family.bos} $A", special_tokens=[begin]
        )
    others = [token for token in family.special if token not in parts.values()]
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        additional_special_tokens=others,
        clean_up_tokenization_spaces=False,
        **parts,
    )
    fast.chat_template = family.template
    return fast


def tiny_config(architecture: str, tokenizer: PreTrainedTokenizerFast, **changes: Any) -> PretrainedConfig:
    """The family's configuration for this tokenizer; a copy of its own, since models write into theirs."""
    family = FAMILIES[architecture]
    options = copy.deepcopy({**family.options, **changes})
    ends = [tokenizer.convert_tokens_to_ids(token) for token in family.ends]
    return family.config(
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=ends[0] if len(ends) == 1 else ends,
        **options,
    )


def tiny_model_folder(path: Path, architecture: str, *, seed: int = 0, **changes: Any) -> Path:
    """Write a model of this family into `path`; `changes` go into its configuration."""
    tokenizer = tiny_tokenizer(FAMILIES[architecture])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(tiny_config(architecture, tokenizer, **changes))
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path
