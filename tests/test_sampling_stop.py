"""Stop strings end a completion with the token that completes one, whatever the borders between tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sampling_support import sample
from tiny_models import FAMILIES, tiny_model_folder, tiny_tokenizer

from grandrounds.policy.load import load_policy
from grandrounds.recipe import PolicyRecipe
from grandrounds.sampling.native import NativeSampler
from grandrounds.sampling.sampler import SamplingSettings
from grandrounds.sampling.stop import StopStrings
from grandrounds.types import Answer, Case, Completion, Prompt

TOKENIZER = tiny_tokenizer(FAMILIES["qwen2"])
STRINGS = ["</answer>", "é", "no ", "ab"]


def _ends_at(stops: StopStrings, tokens: list[int]) -> int | None:
    """After how many tokens a completion that samples these would end."""
    for place, token in enumerate(tokens):
        if stops.may_end(token) and stops.found(tokens[: place + 1]):
            return place + 1
    return None


def _first_place(tokens: list[int], strings: list[str]) -> int | None:
    """The same, by decoding everything each time."""
    for count in range(1, len(tokens) + 1):
        text = TOKENIZER.decode(tokens[:count], skip_special_tokens=True)
        if any(string in text for string in strings):
            return count
    return None


@given(
    st.lists(
        st.one_of(st.integers(0, len(TOKENIZER) - 1), st.sampled_from(TOKENIZER.encode("</answer>aébno no"))),
        max_size=40,
    )
)
def test_a_completion_ends_where_its_whole_text_first_contains_a_string(tokens: list[int]) -> None:
    assert _ends_at(StopStrings(TOKENIZER, STRINGS), tokens) == _first_place(tokens, STRINGS)


@pytest.mark.parametrize("special", [False, True])
def test_a_string_is_found_across_tokens(special: bool) -> None:
    """Letter by letter; special tokens in between are no text."""
    tokens = [token for letter in "x</answer>y" for token in TOKENIZER.encode(letter)]
    if special:
        tokens = [part for token in tokens for part in (token, TOKENIZER.eos_token_id)]
    ended = _ends_at(StopStrings(TOKENIZER, ["</answer>"]), tokens)
    assert ended is not None
    assert TOKENIZER.decode(tokens[:ended], skip_special_tokens=True) == "x</answer>"


def test_half_a_letter_is_none() -> None:
    halves = TOKENIZER.encode("é")
    assert len(halves) == 2
    assert _ends_at(StopStrings(TOKENIZER, ["é"]), [*halves, 7]) == 2


def test_the_text_keeps_the_string_and_nothing_behind_it() -> None:
    assert StopStrings(TOKENIZER, ["</answer>"]).cut("a </answer>\n\n b </answer>") == "a </answer>"
    assert StopStrings(TOKENIZER, ["stop", "end"]).cut("the end, stop") == "the end"
    assert StopStrings(TOKENIZER, ["stop"]).cut("nothing") == "nothing"


def test_sampling_ends_at_a_stop_string(tmp_path: Path) -> None:
    tiny_model_folder(tmp_path, "qwen2")
    policy = load_policy(PolicyRecipe(model=str(tmp_path), adapter="full", device="cpu"), seed=0)
    prompt = Prompt(Case(id="1", question="?", gold=Answer("text", "!")), np.arange(5, 25), "")

    def completions(*stop: str) -> tuple[Completion, ...]:
        settings = SamplingSettings(max_new_tokens=30, stop=stop)
        return sample(NativeSampler(policy), [prompt], 8, settings, (0,))[0].completions

    for free, stopped in zip(completions(), completions("e", "in"), strict=True):
        count = _first_place(free.tokens.tolist(), ["e", "in"])
        # Up to there they are the same tokens, the one that completes the string included.
        assert stopped.tokens.tolist() == free.tokens[:count].tolist()
        np.testing.assert_allclose(stopped.logprobs, free.logprobs[:count], atol=1e-5)
        if count is None:
            assert stopped.finish == free.finish
        else:
            assert stopped.finish == "stop"
            assert stopped.text.endswith(("e", "in"))
