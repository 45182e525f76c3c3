"""Knowledge from a user's table of pairs of a condition and a finding."""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grandrounds.cases.check import ReasoningCheck
from grandrounds.errors import RewardError
from grandrounds.response.outline import Candidate, Outline
from grandrounds.rewards.choice import read_choice
from grandrounds.rewards.matching import LONGEST_ANSWER
from grandrounds.rewards.polarity import affirm, denial
from grandrounds.rewards.text import written_out
from grandrounds.types import Case

_RELATIONS = {"supports": 1.0, "contradicts": -1.0}
_HINT = "A row has a condition, a finding, and a relation (supports, contradicts) or a strength (a number)."


@dataclass(frozen=True)
class TableKnowledge:
    """Pairs of a condition and a finding: positive where the finding supports the condition, else negative.

    A claim is checked if its condition and its finding both occur in the table. It is true if the table has the pair
    with the claim's sign. A pair that is not in the table means no relation, so the claim is false. The absence of a
    supporting finding contradicts, and the absence of a contradicting finding supports, unless the table itself lists
    "no …". Other claims cannot be checked and do not count.
    """

    strengths: Mapping[tuple[str, str], float]  # (condition, finding), both written out -> strength
    conditions: frozenset[str] = field(init=False)
    findings: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "conditions", frozenset(condition for condition, _ in self.strengths))
        object.__setattr__(self, "findings", frozenset(finding for _, finding in self.strengths))

    @classmethod
    def read(cls, path: Path) -> TableKnowledge:
        """Read a CSV or JSONL file (each also .gz) with columns condition, finding, and relation or strength.

        RewardError for a file or row that cannot be used.
        """
        strengths: dict[tuple[str, str], float] = {}
        for line, row in _rows(path):
            where = f"{path}:{line}"
            pair = (_text(row, "condition", where), _text(row, "finding", where))
            strength = _strength(row, where)
            if strengths.setdefault(pair, strength) != strength:
                raise RewardError(
                    f"{pair[0]} and {pair[1]} are listed twice and differ", where=where, hint=_HINT
                )
        if not strengths:
            raise RewardError("the table has no rows", where=str(path), hint=_HINT)
        return cls(strengths)

    def strength(self, condition: str, finding: str) -> float | None:
        """The strength between a condition and a finding, both written out. None if the table lacks one of them."""
        if condition not in self.conditions:
            return None
        finding = denial(finding)
        if finding in self.findings:
            return self.strengths.get((condition, finding), 0.0)
        opposite = affirm(finding) or f"no {finding}"
        if opposite in self.findings:
            return -self.strengths.get((condition, opposite), 0.0)
        return None

    def baselines(self, cases: Sequence[Case]) -> Mapping[str, Mapping[str, bool]]:
        """No baselines: a table of relations makes no diagnoses."""
        return {}

    def check(self, case: Case, outline: Outline) -> ReasoningCheck:
        """Check claims against the table, the conclusion against the claims, and completeness against the case."""
        claims, false = 0, []
        for candidate in outline.differential:
            for sign, claimed in ((1, candidate.supports), (-1, candidate.contradicts)):
                for claim in claimed:
                    strength = self.strength(written_out(candidate.name), written_out(claim.finding))
                    claims += strength is not None
                    if strength is not None and strength * sign <= 0:
                        false.append(f"{candidate.name}: {'for' if sign > 0 else 'against'} {claim.finding}")
        return ReasoningCheck(
            claims=claims,
            true_claims=claims - len(false),
            conclusion_follows=_follows(outline, case.options),
            complete=self._complete(case, outline),
            false_claims=tuple(false),
        )

    def _complete(self, case: Case, outline: Outline) -> bool:
        """Whether every option (open questions: two candidates) is weighed with every fact that the table relates to
        it."""
        weighed = {written_out(candidate.name): candidate for candidate in outline.differential}
        wanted = {written_out(option) for option in case.options.values()}
        if not wanted <= weighed.keys() or len(weighed) < 2:
            return False
        facts = {written_out(fact) for fact in case.facts}
        return all(
            facts_related <= _cited(candidate)
            for name, candidate in weighed.items()
            for facts_related in [{fact for fact in facts if self.strength(name, fact)}]
        )


def _cited(candidate: Candidate) -> set[str]:
    return {written_out(claim.finding) for claim in (*candidate.supports, *candidate.contradicts)}


def _follows(outline: Outline, options: Mapping[str, str]) -> bool | None:
    """Whether the concluded candidate has the highest balance of the reasoning's own claims."""
    if outline.conclusion is None or not outline.differential:
        return None
    balances = {written_out(candidate.name): _balance(candidate) for candidate in outline.differential}
    letter, _ = read_choice(outline.conclusion[:LONGEST_ANSWER], options)
    concluded = written_out(outline.conclusion if letter is None else options[letter])
    return balances.get(concluded) == max(balances.values())


def _balance(candidate: Candidate) -> int:
    """Sum of the claims' points, or 1 for a claim without points: supporting minus contradicting."""
    supports = sum(1 if claim.points is None else claim.points for claim in candidate.supports)
    against = sum(1 if claim.points is None else abs(claim.points) for claim in candidate.contradicts)
    return supports - against


def _rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Line numbers and rows. RewardError for a file that cannot be read."""
    if not path.is_file():
        raise RewardError("there is no such table", where=str(path), hint="Check the option `table`.")
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        lines = content.decode("utf-8-sig").splitlines()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise RewardError(f"the table cannot be read: {error}", where=str(path), hint=_HINT) from error
    name = path.name.removesuffix(".gz")
    if name.endswith(".jsonl"):
        for line, text in enumerate(lines, start=1):
            if text.strip():
                yield line, _json_row(text, f"{path}:{line}")
    elif name.endswith(".csv"):
        reader = csv.DictReader(lines)
        for row in reader:
            yield reader.line_num, row
    else:
        raise RewardError("the table is neither .csv nor .jsonl", where=str(path), hint=_HINT)


def _json_row(text: str, where: str) -> Mapping[str, Any]:
    try:
        row = json.loads(text)
    except json.JSONDecodeError as error:
        raise RewardError(f"this line is no JSON: {error}", where=where, hint=_HINT) from error
    if not isinstance(row, dict):
        raise RewardError("this line is no JSON object", where=where, hint=_HINT)
    return row


def _text(row: Mapping[str, Any], column: str, where: str) -> str:
    text = written_out(str(row.get(column) or ""))
    if not text:
        raise RewardError(f"the row has no {column}", where=where, hint=_HINT)
    return denial(text)


def _strength(row: Mapping[str, Any], where: str) -> float:
    relation, strength = row.get("relation"), row.get("strength")
    if relation not in (None, ""):
        known = _RELATIONS.get(str(relation).strip().lower())
        if known is None:
            raise RewardError(f"{relation!r} is no relation", where=where, hint=_HINT)
        if strength in (None, ""):
            return known
    try:
        value = float(str(strength))
    except ValueError as error:
        raise RewardError(f"{strength!r} is no strength", where=where, hint=_HINT) from error
    if relation not in (None, ""):
        return abs(value) * _RELATIONS[str(relation).strip().lower()]
    return value
