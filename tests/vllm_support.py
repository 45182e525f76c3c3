"""Rows of an engine, asked for and decoded, for the tests of vLLM's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sampling_support import KEY, make_prompts

from grandrounds.sampling.engine import Engine
from grandrounds.sampling.live_row import LiveRow, RowRequest
from grandrounds.sampling.sampler import SamplingSettings
from grandrounds.types import Prompt

GREEDY = SamplingSettings(max_new_tokens=50, temperature=0)


def requests(engine: Engine, lengths: Sequence[int] = (5, 23, 14, 1, 30), **more: Any) -> list[RowRequest]:
    prompts: list[Prompt] = make_prompts(engine, lengths)  # type: ignore[arg-type]  # of it, only the tokenizer is used
    return [RowRequest(prompt, **{"settings": GREEDY, "key": KEY, **more}) for prompt in prompts]


def decode(engine: Engine, asked: Sequence[RowRequest]) -> list[LiveRow]:
    rows = [row for request in asked for row in engine.batch.join([request])]
    while engine.batch.rows:
        engine.batch.step()
    return rows
