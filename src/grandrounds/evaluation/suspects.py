"""Suspect gold labels: cases that a policy answers otherwise than their gold answer, with one voice.

A policy that is unsure answers a case in different ways. Where all completions of a group give the same answer and it
counts as wrong, either the policy has learned something wrong or the gold answer is wrong; a person has to look.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Suspect:
    """A case whose gold answer should be looked at.

    answer: what all completions gave when the case was last asked, in that round. completions: how many there were.
    asked: the rounds in which the case was asked. times: those of them in which all completions gave this answer.
    prompt, reasoning: of that last time, for the reader; "" where the rows do not have them.
    """

    case_id: str
    gold: str
    answer: str
    round: int
    completions: int
    times: int
    asked: int
    prompt: str
    reasoning: str

    def to_json(self) -> dict[str, Any]:
        """For a file of suspects, a line each."""
        return asdict(self)


def suspects(rows: Iterable[Mapping[str, Any]]) -> list[Suspect]:
    """The suspects among a trace's rows (`training.trace`), the most often contradicted first.

    Only the last time counts on which a case was asked: a policy that has changed its mind suspects nothing. Cases
    without gold answer have none to suspect.
    """
    groups: dict[tuple[int, int], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["round"], row["group"]), []).append(row)
    asked: dict[str, list[list[Mapping[str, Any]]]] = {}
    for _, group in sorted(groups.items()):
        asked.setdefault(group[0]["case_id"], []).append(group)
    found = [_suspect(case_id, times) for case_id, times in asked.items() if _contradicted(times[-1])]
    return sorted(found, key=lambda one: (-one.times, -one.times / one.asked, one.case_id))


def _contradicted(group: list[Mapping[str, Any]]) -> bool:
    """Whether all completions give the same wrong answer."""
    given = {row["given"] for row in group}
    return len(given) == 1 and None not in given and not any(row["correct"] for row in group)


def _suspect(case_id: str, times: list[list[Mapping[str, Any]]]) -> Suspect:
    last = times[-1]
    agreeing = [group for group in times if _contradicted(group) and group[0]["given"] == last[0]["given"]]
    row = last[0]
    return Suspect(
        case_id=case_id,
        gold=row["gold"],
        answer=row["answer"] or row["given"],
        round=row["round"],
        completions=len(last),
        times=len(agreeing),
        asked=len(times),
        prompt=row.get("prompt", ""),
        reasoning=row.get("completion", ""),
    )
