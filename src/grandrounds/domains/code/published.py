"""Published tasks: HumanEval, MBPP, APPS. Tests and solutions stay columns, by their own names."""

from __future__ import annotations

from grandrounds.cases.formats.answers import NO_GOLD
from grandrounds.cases.formats.fields import Fields
from grandrounds.cases.formats.general import case_of
from grandrounds.types import Case


def humaneval_case(fields: Fields) -> Case:
    """HumanEval (Chen et al. 2021, arXiv:2107.03374): `prompt` is the beginning of a function."""
    task, question = fields.text("task_id"), f"Complete this Python function.\n\n{fields.text('prompt')}"
    # The tests may use what the prompt defines.
    shown = {"prompt": str(fields.values["prompt"])}
    return Case(id=task, question=question, gold=NO_GOLD, columns={**fields.rest(), **shown})


def mbpp_case(fields: Fields) -> Case:
    """MBPP (Austin et al. 2021, arXiv:2108.07732): a task in a sentence, shown with its tests."""
    name = "text" if "text" in fields.values else "prompt"
    task, asked = fields.text("task_id"), fields.text(name)
    tests = fields.values.get("test_list")
    if not isinstance(tests, list) or not tests:
        fields.fail("there are no tests in `test_list`", "Fill it in, or remove the row.")
    question = "\n".join([asked, "Your code should pass these tests:", *map(str, tests)])
    return Case(id=task, question=question, gold=NO_GOLD, columns=fields.rest())


def apps_case(fields: Fields) -> Case:
    """APPS (Hendrycks et al. 2021, arXiv:2105.09938): inputs and outputs in `input_output`."""
    difficulty = fields.maybe_text("difficulty")
    question = fields.text("question")
    return case_of(fields, question, NO_GOLD, tags={"difficulty": difficulty} if difficulty else {})
