"""A Hub that cannot be reached is found out at once; plans of the shipped recipes work without it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from grandrounds import hub
from grandrounds.policy.load import configuration
from grandrounds.recipe import PolicyRecipe
from grandrounds.recipe_file import load_recipe


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in (*hub.OFFLINE, *hub.PROXIES, "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    hub.settle.cache_clear()
    yield
    hub.settle.cache_clear()


def unreachable(*unused: Any, **more: Any) -> socket.socket:
    assert more["timeout"] <= 3
    raise OSError("no route to host")


def test_where_the_hub_cannot_be_reached_its_libraries_look_into_their_caches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for name in hub.OFFLINE:
        monkeypatch.setenv(name, "")  # put back afterwards
    monkeypatch.setattr(socket, "create_connection", unreachable)
    assert not hub.settle()
    assert constants.HF_HUB_OFFLINE


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [("HF_HUB_OFFLINE", "1", False), ("HTTPS_PROXY", "http://proxy.example", True)],
)
def test_it_is_not_asked_where_that_is_decided_already(
    name: str, value: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "create_connection", lambda *a, **k: pytest.fail("asked"))
    monkeypatch.setenv(name, value)
    assert hub.settle() is expected


def test_where_it_answers_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = socket.socketpair()
    asked: list[Any] = []
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:8000")
    monkeypatch.setattr(socket, "create_connection", lambda to, timeout: asked.append(to) or here)
    assert hub.settle()
    assert asked == [("127.0.0.1", 8000)]
    there.close()


@pytest.mark.parametrize(
    ("recipe", "millions"), [("medqa-0.6b", 596), ("medqa", 1_721), ("medqa-4b", 4_022), ("medqa-8b", 8_191)]
)
def test_shipped_recipes_models_are_known_without_the_hub(
    recipe: str, millions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With as many parameters as their names and cards say (0.6B: 596M with tied embeddings)."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    config = configuration(load_recipe(recipe, []).policy, 0)
    width, heads = config.hidden_size, config.head_dim * config.num_attention_heads
    keys = config.head_dim * config.num_key_value_heads
    layer = width * (2 * heads + 2 * keys + 3 * config.intermediate_size + 2) + 2 * config.head_dim
    embeddings = config.vocab_size * width * (1 if config.tie_word_embeddings else 2)
    assert round((config.num_hidden_layers * layer + embeddings + width) / 1e6) == millions


def test_another_model_is_missed_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(Exception, match="owner/unknown"):
        configuration(PolicyRecipe(model="owner/unknown"), 0)


def test_a_shipped_recipe_is_planned_without_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    from grandrounds.planning.planner import plan

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    made = plan(load_recipe("medqa-0.6b", []), prompt_tokens=512, memory="16GB")
    assert made.need["peak"] > 2**30
    assert made.untimed
