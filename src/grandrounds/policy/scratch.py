"""A small model and its tokenizer, built from the training texts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from grandrounds.errors import RecipeError
from grandrounds.recipe import ScratchRecipe

END, PAD, USER, ASSISTANT, SYSTEM = "<|end|>", "<|pad|>", "<|user|>", "<|assistant|>", "<|system|>"
CONTEXT = 2048
# A phrase is a run of words. It ends at a punctuation mark, a number, a line end, or one of the outline's small words.
# The space between a mark and a phrase belongs to the mark, so that a phrase is the same token wherever it occurs.
WORD = r"\p{L}+(?:['’-]\p{L}+)*"
JOINT = r" ?\b(?:for|against|weighing|totals?|leads|equals|trails)\b ?"
PIECES = rf"\n| ?(?:= )?[+\-−]?\d{{1,2}}|{JOINT}| ?{WORD}(?:(?!{JOINT}) {WORD})*| ?[^\s\p{{L}}\d]+[ \n]?|\s"

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def build_tokenizer(corpus: Iterable[str], vocabulary: int, tags: Iterable[str]) -> Any:
    """Byte-level BPE that merges across spaces: no text is unknown, common phrases become single tokens.

    A finding such as "pain on breathing in" is one token, so prompts and completions are half as long as with merges
    within words. Merges end at punctuation and line ends. A number up to 99 with its sign is one token: attention can
    compare whole numbers with one another, which it cannot do with their digits.

    tags: strings that become single tokens, such as "<answer>".
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [END, PAD, USER, ASSISTANT, SYSTEM]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.add_tokens([AddedToken(tag, normalized=False) for tag in tags])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[USER, ASSISTANT, SYSTEM],
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def check_heads(recipe: ScratchRecipe) -> None:
    """RecipeError where the width is not divisible by the number of heads, with an even quotient."""
    if recipe.hidden % (2 * recipe.heads):
        raise RecipeError(
            f"a width of {recipe.hidden} cannot be divided into {recipe.heads} heads of even width",
            where="policy.scratch.hidden",
            hint="Choose a multiple of twice the number of heads.",
        )


def build_model(recipe: ScratchRecipe, vocabulary: int, eos_id: int, pad_id: int) -> Any:
    """A causal LM of `model_config` with random weights, drawn from torch's current random state."""
    from transformers import PhiForCausalLM

    return PhiForCausalLM(model_config(recipe, vocabulary, eos_id, pad_id))


def model_config(recipe: ScratchRecipe, vocabulary: int, eos_id: int | None, pad_id: int | None) -> Any:
    """A Phi-shaped causal LM with tied embeddings.

    Phi, because its layer norm and GELU are single fused operations on a CPU. At this size an update takes half as long
    again with the RMS norms and gated feed-forward blocks of Llama or Qwen (docs/decisions.md).
    """
    from transformers import PhiConfig

    return PhiConfig(
        vocab_size=vocabulary,
        hidden_size=recipe.hidden,
        intermediate_size=recipe.feedforward,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        hidden_act="gelu",
        # With normalised queries and keys, the model learns to copy findings in order from about half the tokens.
        qk_layernorm=True,
        # transformers' default of 0.02 suits wide layers. At this width the model would need hundreds of steps more.
        initializer_range=recipe.hidden**-0.5,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attention_dropout=0.0,
        eos_token_id=eos_id,
        pad_token_id=pad_id,
        bos_token_id=None,
    )
