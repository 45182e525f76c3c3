"""Prompts are what the family's own chat template makes of them; every way a response may end is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_models import CONTEXT, FAMILIES, THINKING, tiny_model_folder, tiny_tokenizer

from grandrounds.errors import PolicyError
from grandrounds.policy.chat import encode_prompt
from grandrounds.policy.load import load_policy
from grandrounds.recipe import PolicyRecipe, PromptRecipe
from grandrounds.response.grammar import Grammar
from grandrounds.sampling.prompts import make_prompt, make_prompts
from grandrounds.types import Answer, Case, Message

SYSTEM, USER = Message("system", "Be brief."), Message("user", "What is it?")
REFUSES_SYSTEM = ["gemma", "gemma2", "gemma3"]
CASE = Case(id="case-17", question="What is it?", gold=Answer(kind="text", text="Gout"))


@pytest.mark.parametrize("architecture", FAMILIES)
def test_prompt_tokens_are_the_templates_own(architecture: str) -> None:
    """No second <bos>: the template writes it already."""
    tokenizer = tiny_tokenizer(FAMILIES[architecture])
    tokens, text, _ = encode_prompt(tokenizer, [USER])
    rows = [{"role": "user", "content": USER.content}]
    encoded = tokenizer.apply_chat_template(rows, add_generation_prompt=True, tokenize=True, return_dict=True)
    assert tokens.tolist() == list(encoded["input_ids"])
    assert tokens.dtype == np.int64
    assert tokenizer.decode(tokens) == text
    if tokenizer.bos_token_id is not None:
        assert tokens.tolist().count(tokenizer.bos_token_id) == 1


@pytest.mark.parametrize("architecture", FAMILIES)
def test_system_message_reaches_every_family(architecture: str) -> None:
    _, text, _ = encode_prompt(tiny_tokenizer(FAMILIES[architecture]), [SYSTEM, USER])
    assert text.index(SYSTEM.content) < text.index(USER.content)
    assert ("system" in text) == (architecture not in [*REFUSES_SYSTEM, "mistral"])


@pytest.mark.parametrize("architecture", REFUSES_SYSTEM)
def test_refused_system_message_is_folded_into_the_users(architecture: str) -> None:
    _, text, _ = encode_prompt(tiny_tokenizer(FAMILIES[architecture]), [SYSTEM, USER])
    assert "<start_of_turn>user\nBe brief.\n\nWhat is it?<end_of_turn>" in text


def test_template_that_refuses_everything_is_one_policy_error() -> None:
    tokenizer = tiny_tokenizer(FAMILIES["llama"])
    for template in ("{{ raise_exception('Roles must alternate') }}", "{% for message in %}"):
        tokenizer.chat_template = template
        for messages in ([USER], [SYSTEM], [SYSTEM, USER]):
            with pytest.raises(PolicyError, match="chat template refuses"):
                encode_prompt(tokenizer, messages)


def test_opened_tag_is_found_and_belongs_to_the_response() -> None:
    tokenizer = tiny_tokenizer(FAMILIES["qwen3"])
    _, text, prefilled = encode_prompt(tokenizer, [SYSTEM, USER])
    assert prefilled == "<think>\n"
    assert text.endswith(prefilled)
    grammar = Grammar(reasoning_tag="think")
    response = grammar.parse("It is gout.\n</think>\n<answer>Gout</answer>", prefilled=prefilled)
    assert (response.reasoning, response.answer, response.defects) == ("It is gout.", "Gout", ())


@pytest.mark.parametrize("architecture", sorted(FAMILIES.keys() - {"qwen3"}))
def test_control_tokens_at_the_end_are_not_taken_for_an_opened_tag(architecture: str) -> None:
    assert encode_prompt(tiny_tokenizer(FAMILIES[architecture]), [USER])[2] == ""


def test_a_special_token_that_looks_like_a_tag_is_none() -> None:
    family = FAMILIES["gemma"]
    tokenizer = tiny_tokenizer(family)
    tokenizer.chat_template = family.template.replace("<start_of_turn>model\\n", "<start_of_turn>")
    _, text, prefilled = encode_prompt(tokenizer, [USER])
    assert text.endswith("<start_of_turn>")
    assert prefilled == ""


def test_a_tag_the_user_wrote_is_not_an_opened_one() -> None:
    tokenizer = tiny_tokenizer(FAMILIES["qwen2"])
    assert encode_prompt(tokenizer, [Message("user", "Use <think>")])[2] == ""


def test_a_tag_opened_and_closed_is_none() -> None:
    """Qwen3 with thinking switched off writes an empty block."""
    tokenizer = tiny_tokenizer(FAMILIES["qwen3"])
    tokenizer.chat_template = THINKING.replace("<think>\\n", "<think>\\n\\n</think>\\n\\n")
    assert encode_prompt(tokenizer, [USER])[2] == ""


@pytest.mark.parametrize("architecture", FAMILIES)
def test_every_end_token_is_known(architecture: str, tmp_path: Path) -> None:
    """Those of the generation config, the tokenizer's, and the one the template ends turns with."""
    family = FAMILIES[architecture]
    recipe = PolicyRecipe(model=str(tiny_model_folder(tmp_path, architecture)), adapter="full", device="cpu")
    policy = load_policy(recipe, seed=0)
    expected = {*family.ends, family.eos}
    if "<|im_end|>" in family.template:
        expected.add("<|im_end|>")
    assert set(policy.tokenizer.convert_ids_to_tokens(sorted(policy.eos_ids))) == expected
    end = policy.tokenizer.convert_ids_to_tokens(policy.end_id)
    # A demonstration ends as the template ends an assistant's turn.
    rows = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "Gout"}]
    chat = policy.tokenizer.apply_chat_template(rows, tokenize=False)
    assert chat.strip().endswith(f"Gout{end}")
    assert policy.tokenizer.decode(policy.encode_response("Gout")) == f"Gout{end}"


def test_prompt_longer_than_the_context_names_the_case(tmp_path: Path) -> None:
    recipe = PolicyRecipe(model=str(tiny_model_folder(tmp_path, "llama")), adapter="full", device="cpu")
    policy = load_policy(recipe, seed=0)
    assert policy.max_positions == CONTEXT
    prompt = make_prompt(policy, CASE, PromptRecipe(), 16)
    room = CONTEXT - len(prompt.tokens)
    assert make_prompt(policy, CASE, PromptRecipe(), room).case is CASE
    with pytest.raises(PolicyError) as caught:
        make_prompts(policy, [CASE], PromptRecipe(), room + 1)
    assert caught.value.where == "case case-17"
    assert str(CONTEXT) in caught.value.what
