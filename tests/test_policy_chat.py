"""Prompts are what the family's own chat template makes of them; every way a response may end is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_models import CONTEXT, FAMILIES, THINKING, tiny_model_folder, tiny_tokenizer
from typer.testing import CliRunner

from grandrounds.cases.ask import ask
from grandrounds.cli.app import app
from grandrounds.errors import PolicyError, RecipeError
from grandrounds.policy.chat import encode_prompt, give_template
from grandrounds.policy.load import load_policy
from grandrounds.recipe import PolicyRecipe, PromptRecipe
from grandrounds.recipe_file import recipe_from
from grandrounds.response.grammar import Grammar
from grandrounds.sampling.prompts import make_prompt, make_prompts
from grandrounds.sampling.rendered import rendered
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


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_a_raw_question_is_the_whole_prompt(architecture: str, tmp_path: Path) -> None:
    policy = load_policy(PolicyRecipe(model=str(tiny_model_folder(tmp_path, architecture))), seed=0)
    recipe = PromptRecipe(raw=True, system="Be brief.")
    prompt = make_prompt(policy, CASE, recipe, 8)
    assert (prompt.text, prompt.messages, prompt.prefilled) == ("What is it?", (), "")
    assert prompt.tokens.tolist() == policy.tokenizer("What is it?")["input_ids"]
    assert "".join(rendered(policy.tokenizer, CASE, recipe).tokens).endswith("What is it?")
    chat = replace(CASE, question=(USER,))
    assert make_prompt(policy, chat, recipe, 8).messages == (SYSTEM, USER)


def test_switches_of_the_template_reach_it() -> None:
    tokenizer = tiny_tokenizer(FAMILIES["qwen2"])
    tokenizer.chat_template += "{% if enable_thinking is defined and not enable_thinking %}<quick>{% endif %}"
    assert encode_prompt(tokenizer, [USER])[1].count("<quick>") == 0
    assert encode_prompt(tokenizer, [USER], {"enable_thinking": False})[1].endswith("<quick>")


def test_a_base_model_without_a_template_gets_a_plain_one(tmp_path: Path) -> None:
    folder = tiny_model_folder(tmp_path / "base", "qwen2")
    (folder / "chat_template.jinja").unlink()
    policy = load_policy(PolicyRecipe(model=str(folder), adapter="full", device="cpu"), seed=0)
    assert "no chat template: prompts are written plainly" in policy.description
    prompt = make_prompt(policy, CASE, PromptRecipe(system="Be brief."), 16)
    assert prompt.text == "Be brief.\n\nUser: What is it?\n\nAssistant:\n"


def test_the_plain_template_begins_with_the_models_first_token() -> None:
    tokenizer = tiny_tokenizer(FAMILIES["gemma3"])
    tokenizer.chat_template = None
    give_template(tokenizer)
    assert encode_prompt(tokenizer, [USER])[0].tolist().count(tokenizer.bos_token_id) == 1


def test_examples_stand_between_the_system_message_and_the_case() -> None:
    shown = PromptRecipe(
        system="Be brief.", examples=[{"question": "One?", "response": "<answer>1</answer>"}]
    )
    messages = ask(CASE, shown)
    assert [(message.role, message.content) for message in messages] == [
        ("system", "Be brief."),
        ("user", "One?"),
        ("assistant", "<answer>1</answer>"),
        ("user", "What is it?"),
    ]
    assert ask(CASE, shown.model_copy(update={"system": ""}))[0].role == "user"


def test_the_system_message_may_be_a_file_and_goes_into_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "system.txt").write_text("Think as a lawyer.\n", encoding="utf-8")
    recipe = recipe_from({"prompt": {"system_file": str(tmp_path / "system.txt")}})
    assert (recipe.prompt.system, recipe.prompt.system_file) == ("Think as a lawyer.", None)
    with pytest.raises(RecipeError, match="cannot be read") as caught:
        recipe_from({"prompt": {"system_file": str(tmp_path / "none.txt")}})
    assert caught.value.where == "prompt.system_file"
    with pytest.raises(RecipeError, match="both"):
        recipe_from({"prompt": {"system_file": "a", "system": "b"}})


def test_what_a_template_drops_is_said() -> None:
    tokenizer = tiny_tokenizer(FAMILIES["qwen2"])
    tokenizer.chat_template = "{{ messages[-1]['content'] }}<think>\n"
    found = rendered(
        tokenizer, CASE, PromptRecipe(system="Be brief.", template_arguments={"enable_thinking": False})
    )
    assert "".join(found.tokens).startswith("What is it?")
    assert [concern.split("`")[0] for concern in found.concerns] == [
        "The template drops the system message that begins ",
        "The template has no switch ",
        "The template itself opens the response with ",
    ]
    assert rendered(tiny_tokenizer(FAMILIES["qwen2"]), CASE, PromptRecipe()).concerns == ()


def test_the_command_shows_a_case_as_tokens(tmp_path: Path) -> None:
    folder = tiny_model_folder(tmp_path / "model", "qwen2")
    (folder / "chat_template.jinja").unlink()
    cases = tmp_path / "cases.jsonl"
    cases.write_text('{"question": "What is it?", "answer": "Gout"}\n', encoding="utf-8")
    done = CliRunner().invoke(app, ["cases", str(cases), "--policy", str(folder)], catch_exceptions=False)
    assert done.exit_code == 0
    assert "The first of these as" in done.output
    assert "no chat template" in done.output
