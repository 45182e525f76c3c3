"""Published problems: GSM8K, MATH and Open-R1, DAPO and verl."""

from __future__ import annotations

import re

from grandrounds.cases.ask import gold_text
from grandrounds.cases.formats.answers import gold_answer
from grandrounds.cases.formats.fields import Fields, plain_text
from grandrounds.cases.formats.general import case_of, chat_case, read_messages
from grandrounds.domains.mathematics.recognise import HASHES
from grandrounds.types import Case, Demonstration

# GSM8K's calculator annotations: "48/2 = <<48/2=24>>24".
_CALCULATOR = re.compile(r"<<[^<>]*>>")


def gsm8k_case(fields: Fields) -> Case:
    """GSM8K (Cobbe et al. 2021, arXiv:2110.14168): the result stands behind ####, the worked solution before it."""
    question, answer = fields.text("question"), fields.text("answer")
    solution, hashes, result = answer.rpartition(HASHES)
    if not hashes:
        fields.fail(f"the answer has no result behind {HASHES}", f"End it with {HASHES} and the number.")
    gold = gold_answer(fields, result.strip())
    worked = _CALCULATOR.sub("", solution).strip()
    shown = Demonstration(worked, gold.text) if worked else None
    return case_of(fields, question, gold, demonstration=shown)


def math_case(fields: Fields) -> Case:
    """MATH (Hendrycks et al. 2021, arXiv:2103.03874), Open-R1: the result in `answer`, else in the last \\boxed{}."""
    question, solution = fields.text("problem"), fields.maybe_text("solution") or ""
    result = fields.maybe_text("answer") or last_boxed(solution)
    if result is None:
        fields.fail("the solution has no result in \\boxed{}", "Add one, or a column `answer`.")
    tags = {name: value for name in ("level", "type") if (value := fields.maybe_text(name))}
    case = case_of(fields, question, gold_answer(fields, result), tags=tags)
    shown = Demonstration(solution, gold_text(case)) if solution else None
    return Case(**{**vars(case), "demonstration": shown})


def verl_case(fields: Fields) -> Case:
    """DAPO (arXiv:2503.14476) and verl: a chat in `prompt`, the result in `reward_model.ground_truth`."""
    truth = fields.mapping("reward_model").get("ground_truth")
    asked, source = read_messages(fields, "prompt"), fields.maybe_text("data_source")
    if truth is None:
        fields.fail("`reward_model` has no `ground_truth`", "Fill it in, or remove the row.")
    case = chat_case(fields, asked)
    gold = gold_answer(fields, plain_text(truth))
    return Case(**{**vars(case), "gold": gold, "tags": {"source": source} if source else {}})


def last_boxed(text: str) -> str | None:
    """What the last \\boxed{…} holds, braces balanced; None where there is none."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    begin = start + len("\\boxed{")
    depth = 1
    for place in range(begin, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return text[begin:place].strip() or None
    return None
