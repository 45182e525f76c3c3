"""A module with vLLM's names, signatures and rules, as far as the server relies on them. It decodes by transformers.

Where vLLM itself is installed, test_sampling_vllm_real.py compares the signatures. Each step computes all sequences
from their beginning, right padded: slow and plain, and nothing is left in a cache.
"""

from __future__ import annotations

import enum
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM


class RequestOutputKind(enum.Enum):
    CUMULATIVE = 0
    DELTA = 1
    FINAL_ONLY = 2


@dataclass(kw_only=True)
class SamplingParams:
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    max_tokens: int | None = 16
    stop_token_ids: list[int] | None = None
    ignore_eos: bool = False
    logit_bias: dict[int, float] | None = None
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    detokenize: bool = True
    output_kind: RequestOutputKind = RequestOutputKind.CUMULATIVE

    def __post_init__(self) -> None:
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, got {self.max_tokens}.")


@dataclass(kw_only=True)
class EngineArgs:
    model: str
    tokenizer: str | None = None
    skip_tokenizer_init: bool = False
    trust_remote_code: bool = False
    load_format: str = "auto"
    use_tqdm_on_load: bool = True
    dtype: str = "auto"
    max_model_len: int | None = None
    max_num_seqs: int | None = None
    gpu_memory_utilization: float = 0.92
    kv_cache_memory_bytes: int | None = None
    enforce_eager: bool = False
    enable_chunked_prefill: bool | None = None
    disable_log_stats: bool = False


@dataclass
class Logprob:
    logprob: float
    rank: int
    decoded_token: str | None = None


@dataclass
class CompletionOutput:
    token_ids: list[int]
    logprobs: list[dict[int, Logprob]] | None
    finish_reason: str | None


@dataclass
class RequestOutput:
    request_id: str
    prompt_logprobs: list[dict[int, Logprob] | None] | None
    outputs: list[CompletionOutput]
    finished: bool


@dataclass
class Submitted:
    """A request as it was made, and what became of it."""

    request_id: str
    prompt: list[int]
    salt: str
    params: SamplingParams
    sampled: list[int] = field(default_factory=list)
    noise: torch.Generator = field(default_factory=torch.Generator)
    aborted: bool = False


class LLMEngine:
    """submitted: all requests ever made. broken: raised by the next steps."""

    latest: LLMEngine | None = None
    faulty = False  # whether nothing can be computed

    def __init__(self, engine_args: EngineArgs) -> None:
        if engine_args.dtype != "float32":
            raise ValueError(f"Unknown dtype: {engine_args.dtype}\nand more lines")
        self.engine_args = engine_args
        self.model = AutoModelForCausalLM.from_pretrained(engine_args.model, dtype=torch.float32).eval()
        own = self.model.config.max_position_embeddings
        longest = engine_args.max_model_len
        self.model_config = SimpleNamespace(max_model_len=own if longest in (None, -1) else longest)
        self.engine_core = SimpleNamespace(shutdown=self._shut_down)
        self.submitted: list[Submitted] = []
        self.broken: Exception | None = None
        self.open = True
        self._running: dict[str, Submitted] = {}
        LLMEngine.latest = self

    @classmethod
    def from_engine_args(cls, engine_args: EngineArgs) -> LLMEngine:
        return cls(engine_args)

    def _shut_down(self) -> None:
        self.open = False

    def add_request(self, request_id: str, prompt: Mapping[str, Any], params: SamplingParams) -> str:
        tokens = prompt["prompt_token_ids"]
        if not all(type(token) is int for token in tokens):
            raise TypeError("a token must be an int")
        if len(tokens) >= self.model_config.max_model_len:
            raise ValueError("The decoder prompt is longer than the maximum model length")
        made = Submitted(request_id, tokens, prompt.get("cache_salt", ""), params)
        made.noise.manual_seed(params.seed or 0)
        assert request_id not in self._running
        self._running[request_id] = made
        self.submitted.append(made)
        return request_id

    def abort_request(self, request_ids: Sequence[str]) -> None:
        if self.broken is not None:
            raise self.broken
        for name in request_ids:
            if gone := self._running.pop(name, None):
                gone.aborted = True

    def has_unfinished_requests(self) -> bool:
        return bool(self._running)

    @torch.inference_mode()
    def step(self) -> list[RequestOutput]:
        if self.broken is not None:
            raise self.broken
        if self.faulty:
            raise RuntimeError("Unsupported CPU attention configuration: head_dim=40")
        requests = list(self._running.values())[: self.engine_args.max_num_seqs]
        if not requests:
            return []
        sequences = [request.prompt + request.sampled for request in requests]
        longest = max(map(len, sequences))
        padded = torch.tensor([one + [0] * (longest - len(one)) for one in sequences])
        logits = self.model(padded).logits
        return [
            self._advance(request, logits[row, : len(sequence)])
            for row, (request, sequence) in enumerate(zip(requests, sequences, strict=True))
        ]

    def _advance(self, request: Submitted, logits: Tensor) -> RequestOutput:  # [length, vocabulary]
        params, logs = request.params, logits.log_softmax(-1)
        token = _sampled(logits[-1].clone(), params, request.noise)
        prompt_logprobs: list[dict[int, Logprob] | None] | None = None
        if params.prompt_logprobs is not None and not request.sampled:
            following = zip(logs, request.prompt[1:], strict=False)
            prompt_logprobs = [None, *(_entries(row, one, params.prompt_logprobs) for row, one in following)]
        request.sampled.append(token)
        reason = "stop" if token in (params.stop_token_ids or ()) else None
        if reason is None and len(request.sampled) == params.max_tokens:
            reason = "length"
        if reason is not None:
            del self._running[request.request_id]
        logprobs = None if params.logprobs is None else [_entries(logs[-1], token, params.logprobs)]
        completion = CompletionOutput([token], logprobs, reason)
        return RequestOutput(request.request_id, prompt_logprobs, [completion], reason is not None)


def _sampled(logits: Tensor, params: SamplingParams, noise: torch.Generator) -> int:
    for token, bias in (params.logit_bias or {}).items():
        logits[token] += bias
    if params.temperature == 0:
        return int(logits.argmax())
    probabilities = (logits / params.temperature).softmax(-1)
    probabilities[probabilities < params.min_p * probabilities.max()] = 0
    ordered, order = probabilities.sort(descending=True)
    before = ordered.cumsum(-1) - ordered
    ordered[before >= params.top_p * ordered.sum()] = 0
    if params.top_k:
        ordered[params.top_k :] = 0
    return int(order[torch.multinomial(ordered, 1, generator=noise)])


def _entries(logs: Tensor, token: int, most: int) -> dict[int, Logprob]:
    """The token first, wherever it ranks, and then the likeliest ones, as vLLM gives them."""
    entries = {token: Logprob(float(logs[token]), int((logs > logs[token]).sum()) + 1)}
    best = logs.topk(most) if most else ((), ())
    for rank, (log, other) in enumerate(zip(*best, strict=True), start=1):
        entries[int(other)] = Logprob(float(log), rank)
    return entries


def module() -> dict[str, ModuleType]:
    """The module and its submodules, by name."""
    names = ("vllm", "vllm.platforms", "vllm.sampling_params")
    modules = {name: ModuleType(name) for name in names}
    top, platforms, sampling_params = modules.values()
    top.__spec__ = ModuleSpec("vllm", None)
    vars(platforms).update(current_platform=SimpleNamespace(device_type="cpu"))
    vars(sampling_params).update(RequestOutputKind=RequestOutputKind)
    vars(top).update(
        __version__="0",
        platforms=platforms,
        sampling_params=sampling_params,
        EngineArgs=EngineArgs,
        LLMEngine=LLMEngine,
        SamplingParams=SamplingParams,
    )
    return modules


@contextmanager
def installed() -> Iterator[None]:
    """Within the block `import vllm` finds this module."""
    with mock.patch.dict(sys.modules, module()):
        yield
