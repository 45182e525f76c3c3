"""A live server on loopback with tiny models, for the tests of serving."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import fake_vllm
import httpx2
import openai
import uvicorn
from tiny_models import tiny_model_folder

from grandrounds.recipe import Recipe
from grandrounds.recipe_file import with_overrides
from grandrounds.sampling.live_row import Chosen, LiveRow
from grandrounds.serve.app import Server, build_app
from grandrounds.serve.options import ServeOptions
from grandrounds.serve.served import load_served
from grandrounds.training.target import Target
from grandrounds.web.port import bound

KEY = "a-key-for-tests"
WELL = "<reasoning>\nFindings: pain; no fever.\n</reasoning>\n<answer>pericarditis</answer>"
# Each policy's name, its architecture, and what its recipe changes.
Policies = dict[str, tuple[str, list[str]]]
POLICIES: Policies = {
    "thinker": ("qwen2", ["grpo.max_new_tokens=64"]),
    "regular": (
        "llama",
        ["sft.reasoning=false", "rounds=0", "prompt.system=Answer.", "grpo.max_new_tokens=40"],
    ),
}


@dataclass
class Live:
    """A running server. base: its address."""

    base: str
    server: Server

    @property
    def openai(self) -> openai.OpenAI:
        """OpenAI's client, which does not try again."""
        return openai.OpenAI(base_url=f"{self.base}/v1", api_key=KEY, max_retries=0, timeout=120)

    @property
    def http(self) -> httpx2.Client:
        """A plain client, with the key."""
        return httpx2.Client(base_url=self.base, headers={"Authorization": f"Bearer {KEY}"}, timeout=120)

    def settled(self) -> bool:
        """Whether nothing is decoded or waits any more; waits for it."""
        deadline = time.monotonic() + 60
        while self.server.scheduler.counts() != (0, 0) and time.monotonic() < deadline:
            time.sleep(0.01)
        return self.server.scheduler.counts() == (0, 0)


def target(folder: Path, name: str, policies: Policies = POLICIES) -> Target:
    """A policy of these, made where it is not there yet."""
    architecture, overrides = policies[name]
    if not (folder / name).exists():
        tiny_model_folder(folder / name, architecture)
    recipe = with_overrides(Recipe(), ["policy.precision=float32", *overrides])
    return Target(name, str(folder / name), recipe, None, False)


@contextmanager
def running(folder: Path, policies: Policies = POLICIES, **changes: Any) -> Iterator[Live]:
    """A server with these policies, within the block. Where they are decoded by vLLM, a fake one does it."""
    options = ServeOptions(port=0, api_key=KEY, **changes)
    targets = [target(folder, name, policies) for name in policies]
    with mock.patch.dict(os.environ), fake_vllm.installed() if options.engine == "vllm" else nullcontext():
        app = build_app(load_served(targets, options), options)
    with bound(options.host, options.port) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=2))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        base = f"http://127.0.0.1:{listening.getsockname()[1]}"
        while not server.started:
            time.sleep(0.01)
        try:
            yield Live(base, app.state.server)
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def saying(text: str | Callable[[LiveRow], str], *, ends: bool = True) -> Iterator[None]:
    """Within the block every row samples this text, or what is said of it, and then an end token."""
    scripts: dict[LiveRow, deque[int]] = {}
    take = LiveRow.take

    def scripted(self: LiveRow, chosen: Chosen) -> None:
        if self not in scripts:
            said = text if isinstance(text, str) else text(self)
            tokens = self._tokenizer.encode(said, add_special_tokens=False)
            scripts[self] = deque([*tokens, min(self._ends)] if ends else tokens)
        if scripts[self] and not chosen.forced:
            chosen = replace(chosen, token=scripts[self].popleft())
        take(self, chosen)

    LiveRow.take = scripted  # type: ignore[method-assign]
    try:
        yield
    finally:
        LiveRow.take = take  # type: ignore[method-assign]
