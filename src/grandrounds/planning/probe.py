"""How long a round takes, from a short probe on the real model: a few decoding steps and one small pack."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from grandrounds.algorithm.grpo import clipped
from grandrounds.algorithm.learner import Learner, LearnerSettings
from grandrounds.algorithm.packing import packs
from grandrounds.cases.corpus import corpus
from grandrounds.planning.need import Work
from grandrounds.policy.load import load_policy
from grandrounds.policy.model import Policy
from grandrounds.policy.precision import mix_of
from grandrounds.recipe import Recipe
from grandrounds.response.grammar import Grammar
from grandrounds.sampling.native import NativeSampler
from grandrounds.sampling.sampler import SamplingSettings
from grandrounds.types import Answer, Case, CaseBook, Completion, Group, Prompt

STEPS = 4  # decoding steps whose time is taken, after the first
PACK_TOKENS = 1024  # of the probe's pack, a prompt and a completion at least


@dataclass(frozen=True)
class RoundTime:
    """Seconds of a round whose completions are all as long as allowed, rewards not counted."""

    sampling: float
    update: float

    @property
    def round(self) -> float:
        """Both together."""
        return self.sampling + self.update


def round_time(recipe: Recipe, work: Work, book: CaseBook | None) -> RoundTime:
    """Load the policy and take the time; book: the cases, of which a scratch model's tokenizer is made."""
    grammar = Grammar(recipe.prompt.reasoning_tag, recipe.prompt.answer_tag)
    policy = load_policy(
        recipe.policy,
        seed=recipe.seed,
        corpus=None if book is None else lambda: corpus(recipe, book, grammar),
        tags=grammar.tags,
        mix=mix_of(recipe),
    )
    return RoundTime(_sampling_seconds(policy, work), _update_seconds(policy, recipe, work))


def _sampling_seconds(policy: Policy, work: Work) -> float:
    """Prefill and first token of the round's prompts, then as many steps as there are tokens, each as the probe's."""
    prompts = [_prompt(policy, work) for _ in range(work.prompts)]
    sampler = NativeSampler(policy)

    def sample(tokens: int) -> None:
        list(sampler.sample(prompts, work.group_size, SamplingSettings(tokens), key=(0,)))

    first = _seconds(lambda: sample(1))
    further = max(0.0, _seconds(lambda: sample(1 + STEPS)) - first) / STEPS
    return first + (work.new_tokens - 1) * further


def _update_seconds(policy: Policy, recipe: Recipe, work: Work) -> float:
    """Every token as the probe's, forward and backward, and the optimizer's steps."""
    learner = Learner(
        policy, LearnerSettings(beta=recipe.grpo.beta, optimizer=recipe.grpo.optimizer), clipped
    )
    size = max(1, min(work.group_size, (PACK_TOKENS - work.prompt_tokens) // work.new_tokens))
    group = Group(_prompt(policy, work), tuple(_completion(policy, work) for _ in range(size)))
    (pack,) = packs(
        [group], np.ones((1, size)), np.ones((1, size)), tokens_per_pack=2**62, device=policy.device
    )
    learner.accumulate(pack)  # the first one warms up
    computed = _seconds(lambda: learner.accumulate(pack)) / pack.tree.size
    stepped = _seconds(lambda: learner.step(0.0))
    tokens = work.prompts * work.group_tokens
    return recipe.grpo.iterations * (tokens * computed + work.steps * stepped)


def _seconds(work: Callable[[], object]) -> float:
    import torch

    started = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _prompt(policy: Policy, work: Work) -> Prompt:
    case = Case(id="probe", question="", gold=Answer("text", ""))
    return Prompt(case, _tokens(policy, work.prompt_tokens), "")


def _completion(policy: Policy, work: Work) -> Completion:
    tokens = _tokens(policy, work.new_tokens)
    return Completion(tokens, np.zeros(len(tokens), np.float32), "", "length")


def _tokens(policy: Policy, count: int) -> np.ndarray:
    """Tokens of no meaning, int64 [count]: time does not depend on it."""
    return np.arange(count) % policy.head().weight.shape[0]
