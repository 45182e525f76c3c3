"""Small cases, and a sampler that says what it is told to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from grandrounds.cases.check import ReasoningCheck
from grandrounds.evaluation import Evaluation, evaluate
from grandrounds.response import Grammar
from grandrounds.response.outline import Outline
from grandrounds.sampling.sampler import SamplingSettings
from grandrounds.types import Answer, Case, Completion, Group, Prompt

OPTIONS = {"A": "Migraine", "B": "Pericarditis"}
REASONING = """\
Findings: chest pain; no fever.
Migraine: for none; total 0.
Pericarditis: for chest pain +3; against no fever -1; total 2.
Check: Pericarditis leads Migraine by 2.
Conclusion: Pericarditis."""
RIGHT = Grammar().render(REASONING, "B. Pericarditis")
WRONG = Grammar().render(REASONING.replace("Conclusion: Pericarditis", "Conclusion: Migraine"), "A. Migraine")
ANSWER_ONLY = Grammar().render(None, "B. Pericarditis")


def make_case(id: str, *, group: str | None = None, **tags: str) -> Case:
    """A case whose right answer is B."""
    return Case(
        id=id,
        question="A woman of 40 has chest pain and no fever. What is it?",
        gold=Answer("choice", "Pericarditis", letter="B"),
        options=OPTIONS,
        facts=("chest pain", "no fever"),
        tags=tags,
        group=group,
    )


@dataclass
class FakeSampler:
    """Says, for each case, what `texts` has for its id (all samples in turn), or else `otherwise`."""

    texts: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    otherwise: str = RIGHT
    finish: str = "stop"
    calls: list = field(default_factory=list)

    def publish(self, weights, version):
        raise AssertionError("nothing is trained here")

    def sample(self, prompts, n, settings, key):
        self.calls.append((len(prompts), n, settings, key))
        for prompt in reversed(prompts):
            yield Group(prompt, tuple(self._completions(prompt.case.id, n)))

    def _completions(self, id, n):
        texts = self.texts.get(id, self.otherwise)
        for sample in range(n):
            text = texts if isinstance(texts, str) else texts[sample % len(texts)]
            length = len(text.split())
            yield Completion(np.zeros(length, np.int64), np.zeros(length, np.float32), text, self.finish)


class NoMigraine:
    """Knowledge: whoever concludes migraine reasons wrongly."""

    def check(self, case: Case, outline: Outline) -> ReasoningCheck:
        false = tuple(
            f"{candidate.name}: {claim.finding} {claim.points:+d}"
            for candidate in outline.differential
            for claim in candidate.supports
            if claim.finding == "a lie"
        )
        return ReasoningCheck(
            claims=3,
            true_claims=3 - len(false),
            conclusion_follows=outline.conclusion == "Pericarditis",
            complete=True,
            false_claims=false,
        )


def ask(cases: Sequence[Case]) -> list[Prompt]:
    """Prompts without tokens: the fake sampler reads ids only."""
    return [Prompt(case, np.zeros(1, np.int64), "") for case in cases]


def evaluated(
    sampler: FakeSampler | None = None, cases: Sequence[Case] | int = 4, samples: int = 1, **options
) -> Evaluation:
    """An evaluation of so many plain cases, or of these."""
    if isinstance(cases, int):
        cases = [make_case(f"case-{i}") for i in range(cases)]
    return evaluate(
        sampler or FakeSampler(),
        ask(cases),
        grammar=Grammar(),
        settings=SamplingSettings(max_new_tokens=64, temperature=0.7, top_p=0.9),
        samples=samples,
        **options,
    )
