"""Builds everything that a run needs from its recipe."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from grandrounds.algorithm.cursor import Weights
from grandrounds.algorithm.exploration import EntropyTarget
from grandrounds.algorithm.grpo import Grpo
from grandrounds.algorithm.learner import Learner, LearnerSettings
from grandrounds.algorithm.loss import Loss, likelihood
from grandrounds.algorithm.losses import find_loss, loss_settings
from grandrounds.cases.corpus import corpus
from grandrounds.cases.load import BAD_ROW, load_cases
from grandrounds.cases.mix import case_weights
from grandrounds.cases.shortcuts import FREQUENCY, LabelFrequency
from grandrounds.errors import CaseError, PolicyError, RunError
from grandrounds.planning.planner import check_memory
from grandrounds.policy.load import SCRATCH, load_policy
from grandrounds.policy.model import Policy
from grandrounds.policy.precision import mix_of
from grandrounds.recipe import MEMORY, PolicyRecipe, Recipe
from grandrounds.response.grammar import Grammar
from grandrounds.rewards import RewardSet, build_rewards, read_group
from grandrounds.sampling.prompts import make_prompts
from grandrounds.sampling.sampler import Sampler
from grandrounds.training.course import Course
from grandrounds.training.fitting import without_too_long
from grandrounds.training.folder import RunFolder
from grandrounds.training.objects import NAMED, Objects
from grandrounds.training.progress import Progress
from grandrounds.training.telling import TellingSampler
from grandrounds.types import Case, CaseBook


@dataclass
class Setup:
    """The parts of a run. The sampler and the learner share the policy's one set of weights.

    learner: at first the warm-up's, then that of the rounds. course: times the run, for a resume to go on from.
    """

    recipe: Recipe
    book: CaseBook
    grammar: Grammar
    rewards: RewardSet
    policy: Policy
    sampler: Sampler
    learner: Learner
    loss: Loss
    folder: RunFolder
    progress: Progress
    course: Course

    def grpo(self) -> Grpo:
        """Everything that the rounds use, with the present learner."""
        recipe = self.recipe
        return Grpo(
            recipe=recipe.grpo,
            rounds=recipe.rounds,
            seed=recipe.seed,
            cases=self.book.train,
            ask=partial(
                make_prompts, self.policy, recipe=recipe.prompt, max_new_tokens=recipe.grpo.max_new_tokens
            ),
            sampler=TellingSampler(self.sampler, self.progress.doing),
            read=partial(read_group, grammar=self.grammar, max_new_tokens=recipe.grpo.max_new_tokens),
            rewards=self.rewards,
            learner=self.learner,
            loss=self.loss,
            weights=self.weights_of(self.book.train),
        )

    def weights_of(self, cases: Sequence[Case]) -> Weights | None:
        """How often each of these cases is drawn, by `cases.mix` and `cases.balance`; None: all alike."""
        weights = case_weights(self.recipe.cases, cases)
        return None if weights is None else Weights(weights)


def assemble(
    recipe: Recipe,
    folder: RunFolder,
    progress: Progress,
    checkpoint: Path | None = None,
    objects: Objects = NAMED,
) -> Setup:
    """Read the cases, build the rewards, and load the policy, from a checkpoint if one is given.

    Cheap checks come first, loading the model comes last. The precision that `policy.precision: auto` chose is written
    into the run's recipe.
    """
    loss = find_loss(recipe.grpo.loss, Path.cwd())
    loss_settings(recipe.grpo, loss)  # refuses what makes no sense together
    # A checkpoint holds all weights, or only those of the adapter.
    whole = checkpoint is not None and recipe.policy.adapter == "full"
    if recipe.policy.model == MEMORY and objects.model is None and not whole:
        raise PolicyError(
            "this run's model was a Python object, which is not saved with the run",
            where="policy.model",
            hint="Pass it again: resume(folder, model=(model, tokenizer)).",
        )
    progress.doing("reading the cases")
    book = _read_cases(recipe, folder, objects)
    grammar = Grammar(recipe.prompt.reasoning_tag, recipe.prompt.answer_tag)
    rewards = build_rewards(
        recipe.rewards,
        knowledge=book.knowledge,
        base=Path.cwd(),
        run=folder.path,
        functions=objects.functions(),
    )
    if objects.model is None:
        progress.doing("estimating the memory")  # for which a GGUF file is unpacked
        if warning := check_memory(recipe, book):
            progress.note(warning)
    progress.doing("loading the model")
    policy = load_policy(
        recipe.policy if checkpoint is None else saved_policy(recipe, checkpoint),
        seed=recipe.seed,
        corpus=lambda: corpus(recipe, book, grammar),
        tags=grammar.tags,
        mix=mix_of(recipe),
        given=None if whole else objects.model,
    )
    progress.note(policy.description)
    book, too_long = without_too_long(policy, book, recipe)
    for line in filter(None, (*book.notes, _bad_rows(book), too_long, _nothing_held_out(recipe, book))):
        progress.note(line)
    if book.left_out:
        folder.write_left_out(book.left_out)
    settled = _settled(recipe, policy, folder)
    return Setup(
        recipe=settled,
        book=book,
        grammar=grammar,
        rewards=rewards,
        policy=policy,
        sampler=objects.sampler(policy),
        learner=sft_learner(recipe, policy),
        loss=loss,
        folder=folder,
        progress=progress,
        course=Course(settled),
    )


def _read_cases(recipe: Recipe, folder: RunFolder, objects: Objects) -> CaseBook:
    """The run's cases. CaseError where there are none to train on."""
    book = load_cases(recipe.cases, seed=recipe.seed, given=objects.cases)
    if not book.train:
        raise CaseError(
            f"no training cases are left: all {len(book.every)} are held out",
            where="cases.validation_fraction" if book.validation else "cases.test_fraction",
            hint="Lower it, or read more cases.",
        )
    _require_same_cases(folder, book)
    if folder.split() is None:
        folder.write_split(book)
    return book


def _bad_rows(book: CaseBook) -> str:
    count = book.dropped.get(BAD_ROW, 0)
    return f"Left out: {count:,} bad rows, the first at {book.left_out[0]}." if count else ""


def _nothing_held_out(recipe: Recipe, book: CaseBook) -> str:
    if not (recipe.evaluation.every and recipe.rounds) or book.watched:
        return ""
    return (
        "Nothing is evaluated while training: no cases are held out (cases.test_fraction, cases.test_source)."
    )


def _require_same_cases(folder: RunFolder, book: CaseBook) -> None:
    """RunError where a resumed run gets other cases than it began with."""
    began_with = folder.fitted()
    if began_with is None:
        return
    now = json.loads(json.dumps(with_frequencies(book)))
    if FREQUENCY not in began_with:  # runs from before it was kept
        now.pop(FREQUENCY, None)
    if now != began_with:
        raise RunError(
            "these are not the cases this run began with",
            where="cases",
            hint="Give the same cases in the same order, and the version of grandrounds that the run began with "
            "(environment.json); or begin a new run.",
        )


def with_frequencies(book: CaseBook) -> dict[str, Any]:
    """What was fitted on the cases, and how often each option is right in training, which other files are compared
    with."""
    frequency = LabelFrequency.fit(book.train).state()
    return {**book.fitted, **({FREQUENCY: frequency} if frequency["right"] else {})}


def _settled(recipe: Recipe, policy: Policy, folder: RunFolder) -> Recipe:
    """The recipe with the chosen precision. It is also saved, so that a resumed run computes as the run began."""
    if recipe.policy.precision != "auto":
        return recipe
    chosen = recipe.policy.model_copy(update={"precision": policy.precision})
    settled = recipe.model_copy(update={"policy": chosen})
    folder.write_recipe(settled)
    return settled


def saved_policy(recipe: Recipe, checkpoint: Path) -> PolicyRecipe:
    """The recipe's policy, to be loaded from a checkpoint of its run."""
    whole = recipe.policy.model == SCRATCH or recipe.policy.adapter == "full"
    adapter = "full" if whole else "lora"
    return recipe.policy.model_copy(update={"model": str(checkpoint), "adapter": adapter, "merge": False})


def sft_learner(recipe: Recipe, policy: Policy) -> Learner:
    """A learner for the warm-up, with a new optimizer."""
    settings = LearnerSettings(
        weight_decay=recipe.sft.weight_decay,
        max_grad_norm=recipe.grpo.max_grad_norm,
        optimizer=recipe.sft.optimizer,
    )
    return Learner(policy, settings, likelihood)


def grpo_learner(recipe: Recipe, policy: Policy, loss: Loss) -> Learner:
    """A learner for the rounds, with a new optimizer. With beta > 0 the present policy becomes the reference."""
    grpo = recipe.grpo
    return Learner(
        policy,
        LearnerSettings(
            **vars(loss_settings(grpo, loss)),
            entropy_target=None
            if grpo.entropy_target is None
            else EntropyTarget(grpo.entropy_target, grpo.entropy_bonus_step, grpo.entropy_bonus_max),
            weight_decay=grpo.weight_decay,
            max_grad_norm=grpo.max_grad_norm,
            optimizer=grpo.optimizer,
            betas=(grpo.adam_beta1, grpo.adam_beta2),
        ),
        loss.objective,
    )
