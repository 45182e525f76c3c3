"""Form: one reasoning, then one answer, and nothing else."""

from __future__ import annotations

from grandrounds.response.grammar import Defect
from grandrounds.rewards.scorer import RewardContext, Score, Scorer
from grandrounds.types import Sample

# The parts that earn a quarter each in the soft form. A part is lost by any of its defects.
PARTS: dict[str, frozenset[Defect]] = {
    "reasoning": frozenset({Defect.reasoning_missing, Defect.reasoning_empty, Defect.reasoning_repeated}),
    "answer": frozenset({Defect.answer_missing, Defect.answer_empty, Defect.answer_repeated}),
    "order": frozenset({Defect.wrong_order, Defect.tag_nested, Defect.cut_off}),
    "nothing else": frozenset({Defect.text_outside_tags, Defect.tag_unclosed, Defect.tag_unopened}),
}


def form(context: RewardContext, *, soft: bool = False) -> Scorer:
    """Strict: 1 without any defect, else 0. Soft: a quarter for each of four parts. The note lists the defects."""

    def score(sample: Sample) -> Score:
        defects = set(sample.response.defects)
        note = [str(defect) for defect in sample.response.defects] or None
        if not soft:
            return Score(float(not defects), note)
        kept = {part for part, losing in PARTS.items() if not losing & defects}
        if not {"reasoning", "answer"} <= kept:
            # An empty completion has no wrong order and no text outside of tags, but must not earn these parts.
            kept -= {"order", "nothing else"}
        return Score(len(kept) / len(PARTS), note)

    return score
