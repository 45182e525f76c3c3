"""Evaluates a policy: samples answers to every case, parses and judges them, and computes the totals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from grandrounds.behaviour.detectors import BEHAVIOURS, spans_of
from grandrounds.behaviour.trace import trace_of
from grandrounds.cases.ask import lettered_gold
from grandrounds.cases.check import Knowledge
from grandrounds.errors import CaseError
from grandrounds.evaluation.progress import Done, counted
from grandrounds.evaluation.result import Answered, Baseline, CaseResult, Evaluation, Lengths
from grandrounds.evaluation.statistics import Share, maj_at_k, pass_at_k, wilson
from grandrounds.evaluation.subgroups import accuracy_of, subgroups
from grandrounds.response.grammar import Grammar
from grandrounds.rewards.consistency import consistent
from grandrounds.rewards.evidence import evidence
from grandrounds.rewards.sample import read_group
from grandrounds.rewards.scorer import RewardContext
from grandrounds.sampling.sampler import Sampler, SamplingSettings, in_order
from grandrounds.types import Case, Prompt, Sample

# Completions per call of the sampler: enough to keep it busy, few enough for the memory.
ROWS_PER_CHUNK = 256


def evaluate(
    sampler: Sampler,
    prompts: Sequence[Prompt],
    *,
    grammar: Grammar,
    settings: SamplingSettings,
    samples: int = 1,
    knowledge: Knowledge | None = None,
    seed: int = 0,
    skipped: Mapping[str, int] | None = None,
    progress: Done | None = None,
) -> Evaluation:
    """Sample answers to every prompt and judge them.

    samples: answers to each case. A single one is decoded greedily, whatever temperature `settings` has.
    knowledge: checks reasoning, where the cases come with knowledge.
    skipped: reason -> number of cases that the caller could not ask, for the report.
    progress: called with (cases done, cases in all) before the first and as answers to a case are complete.
    CaseError where there is no prompt, or where two prompts have the same id.
    """
    _distinct(prompts)
    if samples == 1:
        settings = replace(settings, temperature=0.0, top_p=1.0, top_k=0, min_p=0.0)
    read = partial(read_group, grammar=grammar, max_new_tokens=settings.max_new_tokens)
    step = max(1, ROWS_PER_CHUNK // samples)
    results: list[CaseResult] = []
    if progress is not None:
        progress(0, len(prompts))
    for start in range(0, len(prompts), step):
        chunk = prompts[start : start + step]
        sampled = sampler.sample(chunk, samples, settings, (seed, "evaluation"))
        groups = in_order(chunk, counted(sampled, progress, len(prompts), len(results)))
        results += [_case_result(read(group), knowledge) for group in groups]
    return summarise(results, skipped=skipped or {})


def _distinct(prompts: Sequence[Prompt]) -> None:
    if not prompts:
        raise CaseError("there is no case to evaluate", hint="Check the source, the split and the limit.")
    seen: set[str] = set()
    for prompt in prompts:
        if prompt.case.id in seen:
            raise CaseError(
                "two cases have this id",
                where=f"case {prompt.case.id}",
                hint="Ids must be unique in a source.",
            )
        seen.add(prompt.case.id)


_cited = evidence(RewardContext())


def _case_result(samples: Sequence[Sample], knowledge: Knowledge | None) -> CaseResult:
    """The result of a case, with its answers."""
    case = samples[0].case
    return CaseResult(
        id=case.id,
        question=question_text(case),
        options=dict(case.options),
        gold=lettered_gold(case),
        tags=dict(case.tags),
        group=case.group,
        answers=tuple(_answered(sample, knowledge) for sample in samples),
        option_notes=dict(case.option_notes),
    )


def _answered(sample: Sample, knowledge: Knowledge | None) -> Answered:
    response, verdict = sample.response, sample.verdict
    answered = Answered(
        answer=response.answer,
        given=verdict.given,
        correct=verdict.correct,
        layer=verdict.layer,
        reasoning=response.reasoning,
        text=response.text,
        defects=tuple(str(defect) for defect in response.defects),
        length=sample.length,
        finish=sample.finish,
    )
    if not response.reasoning:
        return answered
    cited = _cited(sample)
    return replace(
        answered,
        consistent=consistent(response, sample.case) is True,
        evidence=cited.value,
        invented=tuple(cited.note or ()),
        check=knowledge.check(sample.case, response.outline) if knowledge else None,
        behaviours=spans_of(trace_of(response.reasoning, sample.case)),
    )


def question_text(case: Case) -> str:
    """The question for a reader: context and question, or the messages of a conversation without the system's."""
    if isinstance(case.question, str):
        return "\n".join([*case.context, case.question])
    said = [message.content for message in case.question if message.role != "system"]
    return "\n".join([*case.context, *said])


def summarise(cases: Sequence[CaseResult], *, skipped: Mapping[str, int]) -> Evaluation:
    """Summarise judged cases, each with the same number of answers."""
    answers = [answer for case in cases for answer in case.answers]
    lengths = np.array([answer.length for answer in answers])
    return Evaluation(
        count=len(cases),
        samples=len(cases[0].answers),
        skipped=dict(skipped),
        accuracy=accuracy_of(cases),
        answered=_share(bool(answer.answer) for answer in answers),
        reasoned=_share(bool(answer.reasoning) for answer in answers),
        format=_share(not answer.defects for answer in answers),
        consistency=_share_known(answer.consistent for answer in answers),
        evidence=_share_known(answer.evidence for answer in answers),
        validity_given_correct=_validity([answer for answer in answers if answer.correct], answers),
        maj_at_k=_votes(cases),
        pass_at_k=_passes(cases),
        lengths=Lengths(
            mean=float(lengths.mean()),
            p50=float(np.median(lengths)),
            p95=float(np.quantile(lengths, 0.95)),
            cut_off=float(np.mean([answer.finish == "length" for answer in answers])),
        ),
        subgroups=subgroups(cases, lambda case: case.tags),
        cases=tuple(cases),
        behaviours=_behaviours([answer for answer in answers if answer.reasoning]),
    )


def restricted(evaluation: Evaluation, ids: set[str], reason: str) -> Evaluation:
    """The evaluation on the cases with these ids; the others are counted as skipped for this reason."""
    left_out = len(evaluation.cases) - sum(case.id in ids for case in evaluation.cases)
    if not left_out:
        return evaluation
    again = summarise(
        [case for case in evaluation.cases if case.id in ids],
        skipped={**evaluation.skipped, reason: left_out},
    )
    baselines = tuple(
        Baseline(own.name, {case: right for case, right in own.correct.items() if case in ids})
        for own in evaluation.baselines
    )
    faithful = evaluation.faithfulness.on(ids) if evaluation.faithfulness else None
    robust = evaluation.robustness.on(ids) if evaluation.robustness else None
    return replace(again, baselines=baselines, faithfulness=faithful, robustness=robust)


def _share(values: Iterable[float | bool]) -> Share:
    listed = [float(value) for value in values]
    total = min(sum(listed), float(len(listed)))  # rounding may take a mean of scores above 1
    return Share(total / len(listed), len(listed), wilson(total, len(listed)))


def _share_known(values: Iterable[float | bool | None]) -> Share | None:
    known = [value for value in values if value is not None]
    return _share(known) if known else None


def _validity(correct: Sequence[Answered], answers: Sequence[Answered]) -> Share | None:
    """The share of right answers with a valid reasoning. An answer without reasoning counts as not valid. None for a
    policy that never reasons."""
    if not correct or not any(answer.check for answer in answers):
        return None
    return _share(answer.check is not None and answer.check.valid for answer in correct)


def _behaviours(reasoned: Sequence[Answered]) -> dict[str, Share]:
    if not reasoned:
        return {}
    return {name: _share(bool(answer.behaviours[name]) for answer in reasoned) for name in BEHAVIOURS}


def _votes(cases: Sequence[CaseResult]) -> dict[int, float]:
    samples = len(cases[0].answers)
    if samples == 1:
        return {}
    shares = [
        maj_at_k([answer.given for answer in case.answers], [answer.correct for answer in case.answers])
        for case in cases
    ]
    return {samples: float(np.mean(shares))}


def _passes(cases: Sequence[CaseResult]) -> dict[int, float]:
    """pass@k for k = 1, 2, 4, … and the number of samples."""
    samples = len(cases[0].answers)
    if samples == 1:
        return {}
    ks = sorted({*(2**power for power in range(samples.bit_length()) if 2**power <= samples), samples})
    correct = [sum(answer.correct for answer in case.answers) for case in cases]
    return {k: float(np.mean([pass_at_k(samples, count, k) for count in correct])) for k in ks}
