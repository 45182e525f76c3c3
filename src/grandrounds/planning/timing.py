"""The time of a round, from a few decoding steps and one small pack of the real model."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

from grandrounds.algorithm.correction import Correction
from grandrounds.algorithm.grpo import clipped
from grandrounds.algorithm.learner import Learner, LearnerSettings
from grandrounds.algorithm.packing import packs
from grandrounds.cases.corpus import corpus
from grandrounds.planning.need import Work
from grandrounds.policy.load import load_policy
from grandrounds.policy.precision import mix_of
from grandrounds.recipe import Recipe
from grandrounds.response.grammar import Grammar
from grandrounds.sampling.native import NativeSampler
from grandrounds.sampling.sampler import SamplingSettings
from grandrounds.types import Answer, Case, CaseBook, Completion, Group, Prompt

STEPS = 4  # timed decoding steps, after the first
PACK_TOKENS = 1024  # of the timed pack; a prompt and a completion at least


def round_seconds(recipe: Recipe, work: Work, book: CaseBook | None) -> dict[str, float]:
    """Seconds of sampling, update and both for the largest round, without rewards.

    book: the cases; a scratch model's tokenizer is made from them.
    """
    grammar = Grammar(recipe.prompt.reasoning_tag, recipe.prompt.answer_tag)
    texts = None if book is None else lambda: corpus(recipe, book, grammar)
    policy = load_policy(recipe.policy, seed=recipe.seed, corpus=texts, tags=grammar.tags, mix=mix_of(recipe))
    vocabulary = policy.head().weight.shape[0]
    prompt, *completions = (
        (np.arange(size) + first) % vocabulary
        # Completions that differ from the first token on: what they share would be computed once.
        for first, size in enumerate((work.prompt_tokens, *[work.max_new_tokens] * work.group_size))
    )
    asked = Prompt(Case(id="timing", question="", gold=Answer("text", "")), prompt, "")
    sampler = NativeSampler(policy)

    def sample(tokens: int) -> None:
        list(sampler.sample([asked] * work.prompts, work.group_size, SamplingSettings(tokens), key=(0,)))

    first = _seconds(lambda: sample(1))
    step = max(0.0, _seconds(lambda: sample(1 + STEPS)) - first) / STEPS
    sampling = first + (work.max_new_tokens - 1) * step

    grpo = recipe.grpo
    # An adaptive bonus that is applied, as it is in some rounds.
    bonus = grpo.entropy_bonus or (grpo.entropy_bonus_step if grpo.entropy_target else 0.0)
    settings = LearnerSettings(beta=grpo.beta, optimizer=grpo.optimizer, entropy_bonus=bonus)
    learner = Learner(policy, settings, clipped)
    size = max(1, min(work.group_size, (PACK_TOKENS - work.prompt_tokens) // work.max_new_tokens))
    none = np.zeros(work.max_new_tokens, np.float32)
    done = tuple(Completion(tokens, none, "", "length") for tokens in completions[:size])
    ones = np.ones((1, size))
    group = [Group(asked, done)]
    (pack,) = packs(group, ones, ones, tokens_per_pack=2**62, device=policy.device)
    if grpo.beta:
        pack = learner.with_reference(pack)
    learner.accumulate(pack)  # the first one warms up
    learning = _seconds(lambda: learner.accumulate(pack)) / pack.tree.size
    forward = 0.0
    if work.forwards:
        forward = (
            _seconds(lambda: learner.corrected(pack, Correction("token_truncate", 1.0))) / pack.tree.size
        )
    steps = work.steps * _seconds(lambda: learner.step(0.0))
    tokens = work.prompts * work.group_tokens
    update = grpo.iterations * (tokens * learning + steps) + work.forwards * tokens * forward
    return {"sampling": sampling, "update": update, "round": sampling + update}


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started
