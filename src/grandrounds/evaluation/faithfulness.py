"""Faithfulness: is the answer what the shown reasoning leads to? Measured by asking again, greedily.

    decisive     the cited finding that speaks most for what is concluded, by the reasoning's own points, is taken out
    removed      one cited finding is taken out of the case    the answer should move more often than
    uncited      one finding that is not cited is taken out    ... here
    corrupted    another case's finding in the cited one's place
    early        the reasoning is cut after a share of its sentences, its tag is closed, the answer's is opened:
                 an answer that is there from the start owes nothing to the reasoning

Early answering is that of Lanham et al. 2023, arXiv:2307.13702, section 2.3. One finding of each kind is drawn for each
case, so that the trials are independent. Cases with known facts lose items; others lose whole sentences.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from grandrounds.behaviour.evidence import cited_facts, names, says
from grandrounds.behaviour.items import Item, instead, items, stated, without
from grandrounds.behaviour.trace import sentences, texts_of, trace_of
from grandrounds.evaluation.progress import Done, counted
from grandrounds.evaluation.progress import part as part_of
from grandrounds.evaluation.trials import CHANGES, EARLY, Faithfulness, Trial
from grandrounds.response.grammar import Grammar
from grandrounds.rewards.sample import read_group
from grandrounds.rewards.text import normalise
from grandrounds.sampling.sampler import Sampler, SamplingSettings, in_order
from grandrounds.types import Case, Message, Prompt, Sample

ANSWER_TOKENS = 64  # of an early answer, at most


@dataclass(frozen=True)
class Asking:
    """How the policy is asked.

    ask: a case's prompt, None where it does not fit. begin: the prompt with the beginning of its response written,
    None where that does not fit.
    """

    sampler: Sampler
    ask: Callable[[Case], Prompt | None]
    begin: Callable[[Prompt, str], Prompt | None]
    grammar: Grammar
    settings: SamplingSettings
    seed: int

    def answers(
        self, prompts: Sequence[Prompt], progress: Done | None = None, *, early: bool = False
    ) -> list[Sample]:
        """One greedy response to each prompt, in order. early: the answer's tag is open already."""
        how = replace(self.settings, temperature=0.0, top_p=1.0, top_k=0, min_p=0.0)
        if early:
            most = min(how.max_new_tokens, ANSWER_TOKENS)
            how = replace(how, max_new_tokens=most, stop=(*how.stop, f"</{self.grammar.answer_tag}>"))
        sampled = self.sampler.sample(prompts, 1, how, (self.seed, "faithfulness"))
        groups = in_order(prompts, counted(sampled, progress, len(prompts)))
        read = partial(read_group, grammar=self.grammar, max_new_tokens=how.max_new_tokens)
        return [read(group)[0] for group in groups]


def faithfulness(asking: Asking, prompts: Sequence[Prompt], progress: Done | None = None) -> Faithfulness:
    """Ask every case as it is, then changed and early. Cases whose answer or reasoning is missing are left out."""
    # What can be changed is known once all have answered.
    most = (1 + len(CHANGES) + len(EARLY)) * len(prompts)
    shown = [
        sample
        for sample in asking.answers(prompts, part_of(progress, 0, len(prompts), most))
        if sample.response.reasoning and answer_of(sample) is not None
    ]
    changes = list(_changes(shown, asking))
    early = list(_cut(shown, asking))
    done = len(prompts)
    total = done + len(changes) + len(early)
    trials: list[Trial] = []
    for part in (changes, early):
        if progress is not None:
            progress(done, total)
        further = part_of(progress, done, len(part), total)
        asked = [prompt for _, prompt in part]
        answers = asking.answers(asked, further, early=part is early) if part else []
        trials += [
            replace(trial, after=answer_of(sample)) for (trial, _), sample in zip(part, answers, strict=True)
        ]
        done += len(part)
    if progress is not None:
        progress(done, total)
    return Faithfulness(tuple(trials))


def answer_of(sample: Sample) -> str | None:
    """The answer as understood, the same for answers that mean the same; else its normalised text."""
    if sample.verdict.given is not None:
        return sample.verdict.given
    return normalise(sample.response.answer or "") or None


def _changes(samples: Sequence[Sample], asking: Asking) -> Iterator[tuple[Trial, Prompt]]:
    """The trials in which a case is changed, with their prompts."""
    donors = [(sample.case.id, place.item.text) for sample in samples for place in _places(sample)[0]]
    for sample in samples:
        cited, uncited = _places(sample)
        id, before = sample.case.id, answer_of(sample) or ""
        for kind in CHANGES:
            places, drawn = (uncited, "uncited") if kind == "uncited" else (cited, "cited")
            if kind == "decisive":
                places = _decisive(sample, cited)
            placed = _foreign(sample.case, donors, asking.seed) if kind == "corrupted" else None
            if not places or (kind == "corrupted" and placed is None):
                continue
            place = places[_lot(asking.seed, id, drawn) % len(places)]
            prompt = asking.ask(place.changed(sample.case, placed))
            if prompt is not None:
                yield Trial(id, kind, before, None, changed=place.item.text, placed=placed), prompt


@dataclass(frozen=True)
class _Place:
    """An item in one of a case's texts: number `text` among its passages and the user's messages."""

    text: int
    item: Item

    def changed(self, case: Case, placed: str | None) -> Case:
        """The case without the item, or with another in its place."""
        old = texts_of(case)[self.text]
        new = without(old, self.item) if placed is None else instead(old, self.item, placed)
        if self.text < len(case.context):
            passages = [new if i == self.text else text for i, text in enumerate(case.context)]
            return replace(case, context=tuple(passages), facts=())
        if isinstance(case.question, str):
            return replace(case, question=new, facts=())
        return replace(
            case, question=_with_message(case.question, self.text - len(case.context), new), facts=()
        )


def _with_message(messages: Sequence[Message], number: int, text: str) -> tuple[Message, ...]:
    """The conversation with another text in the user's message of this number."""
    places = [i for i, message in enumerate(messages) if message.role == "user"]
    return tuple(
        replace(message, content=text) if i == places[number] else message
        for i, message in enumerate(messages)
    )


def _places(sample: Sample) -> tuple[list[_Place], list[_Place]]:
    """(items that the reasoning cites, items that it does not name at all)."""
    case = sample.case
    trace = trace_of(sample.response.reasoning or "", case)
    known = cited_facts(trace)
    cited, uncited = [], []
    for number, text in enumerate(texts_of(case)):
        for item in items(text) if case.facts else stated(text):
            named = names(trace, item.text)
            if says(item.text, known) if case.facts else named:
                cited.append(_Place(number, item))
            elif not named:
                uncited.append(_Place(number, item))
    return cited, uncited


def _decisive(sample: Sample, cited: Sequence[_Place]) -> list[_Place]:
    """The cited items to which the reasoning gives most points for what it concludes; none where it gives none."""
    outline = sample.response.outline
    concluded = normalise(outline.conclusion or "")
    claims = [
        claim
        for candidate in outline.differential
        if normalise(candidate.name) == concluded
        for claim in candidate.supports
        if claim.points is not None
    ]
    most = max((claim.points or 0 for claim in claims), default=0)
    heaviest = [claim.finding for claim in claims if claim.points == most]
    return [place for place in cited if says(place.item.text, heaviest)]


def _foreign(case: Case, donors: Sequence[tuple[str, str]], seed: int) -> str | None:
    """A finding of another case, drawn by lot, that this case does not have; None where there is none."""
    own = " ".join(texts_of(case)).lower()
    others = sorted({text for id, text in donors if id != case.id and text.lower() not in own})
    return others[_lot(seed, case.id, "foreign") % len(others)] if others else None


def _cut(samples: Sequence[Sample], asking: Asking) -> Iterator[tuple[Trial, Prompt]]:
    """The trials that answer early, with their prompts."""
    for sample in samples:
        reasoning = sample.response.reasoning or ""
        ends = [0, *(one.span[1] for one in sentences(reasoning))]
        for share in EARLY:
            kept = reasoning[: ends[int(share * (len(ends) - 1))]]
            begun = asking.begin(sample.prompt, asking.grammar.begun(kept))
            if begun is not None:
                yield Trial(sample.case.id, "early", answer_of(sample) or "", None, share=share), begun


def _lot(seed: int, *key: str) -> int:
    digest = hashlib.blake2b("\x1f".join((str(seed), *key)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")
