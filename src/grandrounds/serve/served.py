"""A policy that is served: its name, its form, and how a request becomes rows of its batch."""

from __future__ import annotations

import copy
import secrets
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from grandrounds.errors import PolicyError, RunError
from grandrounds.recipe import Recipe
from grandrounds.response.form import Form
from grandrounds.response.grammar import Grammar
from grandrounds.sampling.engine import Engine
from grandrounds.sampling.live_row import RowRequest, least_tokens
from grandrounds.sampling.prompts import render_prompt
from grandrounds.sampling.sampler import SamplingSettings
from grandrounds.serve.chat_request import ChatRequest
from grandrounds.serve.engines import ENGINES
from grandrounds.serve.errors import ApiError
from grandrounds.serve.options import ServeOptions
from grandrounds.training.target import Target
from grandrounds.types import Answer, Case, Message, Prompt

SEEDS = 2**63


@dataclass
class Served:
    """A policy, as what decodes it, with the recipe it was trained by."""

    name: str
    engine: Engine
    recipe: Recipe
    options: ServeOptions
    _tokenizer: Any = field(init=False, repr=False)
    _lock: Lock = field(init=False, repr=False, default_factory=Lock)

    def __post_init__(self) -> None:
        # Tokenizers must not be used by two threads at a time; the engine's own belongs to the decoding thread.
        self._tokenizer = copy.deepcopy(self.engine.tokenizer)
        prompt, regular = self.recipe.prompt, not self.recipe.sft.reasoning and not self.recipe.rounds
        self.form = Form(Grammar(prompt.reasoning_tag, prompt.answer_tag), reasoning=not regular)
        self._least = least_tokens(self.form, self._tokenizer)
        if self._least > self.options.max_tokens:
            raise RunError(
                f"a response of {self.name} needs at least {self._least} tokens for its tags and a few words",
                where="--max-tokens",
                hint="Allow more.",
            )

    def rows(self, request: ChatRequest) -> list[RowRequest]:
        """The completions that the request asks for. ApiError for what the policy cannot do."""
        if request.n > self.options.max_rows:
            raise ApiError(400, f"`n` is at most {self.options.max_rows} here.", param="n")
        with self._lock:
            prompt = self._prompt(request)
        settings = self._settings(request, self._longest(request, len(prompt.tokens)))
        seed = secrets.randbelow(SEEDS) if request.seed is None else request.seed
        return [
            RowRequest(
                prompt=prompt,
                settings=settings,
                key=(seed, "serve"),
                place=place,
                top=(request.top_logprobs or 0) if request.logprobs else None,
                form=self.form,
                on_leaving=self.options.on_leaving,
            )
            for place in range(request.n)
        ]

    def _prompt(self, request: ChatRequest) -> Prompt:
        messages: tuple[Message, ...] = request.conversation(self.form.grammar)
        # One question is asked as a case is; a conversation goes on as it is.
        question = messages[0].content if len(messages) == 1 else messages
        case = Case(id="request", question=question, gold=Answer("none", ""))
        try:
            return render_prompt(self._tokenizer, case, self.recipe.prompt)
        except PolicyError as error:
            raise ApiError(400, f"{error.what}.", param="messages") from None

    def _longest(self, request: ChatRequest, prompt: int) -> int:
        """The maximum length. ApiError where it is above the server's, or the model's context is too short."""
        (name, wanted), most = request.longest, self.options.max_tokens
        room = self.engine.max_positions - prompt
        if wanted is not None and not self._least <= wanted <= most:
            why = "" if wanted > most else ": a response needs so many for its tags and a few words"
            raise ApiError(400, f"`{name}` is {self._least} to {most} here{why}.", param=name)
        if (wanted or self._least) > room:
            raise ApiError(
                400,
                f"The prompt has {prompt} tokens and the response up to {wanted or self._least}; "
                f"the model's context is {self.engine.max_positions}.",
                param="messages",
                code="context_length_exceeded",
            )
        own = self.recipe.evaluation.max_new_tokens or self.recipe.grpo.max_new_tokens
        return wanted or max(self._least, min(own, most, room))

    def _settings(self, request: ChatRequest, longest: int) -> SamplingSettings:
        """The request's settings, and the policy's own in place of those that it leaves out."""
        own = self.recipe.evaluation
        return SamplingSettings(
            max_new_tokens=longest,
            temperature=own.temperature if request.temperature is None else request.temperature,
            top_p=own.top_p if request.top_p is None else request.top_p,
            top_k=own.top_k if request.top_k is None else request.top_k,
            min_p=own.min_p if request.min_p is None else request.min_p,
            stop=tuple(self.recipe.grpo.stop),
        )


def load_served(targets: list[Target], options: ServeOptions) -> dict[str, Served]:
    """The policies by name. RunError where two have the same name."""
    names = [target.name for target in targets]
    for name in names:
        if names.count(name) > 1:
            raise RunError(f"two policies are called `{name}`", hint="Name them: first=POLICY second=POLICY.")
    engines = ENGINES[options.engine](targets, options)
    return {
        target.name: Served(target.name, engine, target.recipe, options)
        for target, engine in zip(targets, engines, strict=True)
    }
