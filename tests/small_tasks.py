"""Small tasks of every kind, made here, with the rewards that are shipped for them: to attack rewards on.

name -> (rewards of a recipe, rows as files have them)
"""

from __future__ import annotations

from typing import Any

FORM = {"weight": 0.2}
Rows = list[dict[str, Any]]


def _numbers() -> Rows:
    return [{"question": f"What is {n} squared?", "answer": n * n, "kind": "number"} for n in range(3, 13)]


def _units() -> Rows:
    return [
        {
            "question": f"Osmolality of serum with sodium {140 + n} mmol/L, glucose 5 and urea 5 mmol/L?",
            "answer": f"{290 + 2 * n} mOsm/kg",
            "kind": "number",
        }
        for n in range(8)
    ]


def _mathematics() -> Rows:
    results = (r"\frac{1}{2}", r"2\sqrt{3}", "x^2-1", "[0,1)", r"\frac{\pi}{4}", "17", r"\{1,2\}", "-5")
    return [
        {
            "problem": f"Problem {number}: what comes out?",
            "solution": rf"We work it out. So it is $\boxed{{{result}}}$.",
            "level": "Level 1",
            "type": "Algebra",
        }
        for number, result in enumerate(results)
    ]


def _law() -> Rows:
    clauses = (
        ("4.1", "the rent", "the tenant", "the landlord"),
        ("5.2", "repairs of the roof", "the landlord", "the tenant"),
        ("6.3", "cleaning", "the tenant", "the caretaker"),
        ("7.4", "the property tax", "the landlord", "the caretaker"),
        ("8.5", "the lift's upkeep", "the caretaker", "the landlord"),
        ("9.6", "water", "the tenant", "the landlord"),
    )
    return [
        {
            "question": f"Who pays for {what}?",
            "context": "\n".join(f"{n} {who.capitalize()} pays for {thing}." for n, thing, who, _ in clauses),
            "options": [payer, other, "nobody"],
            "answer": payer,
            "reasoning": f"Clause {number} names who pays for {what}.\nConclusion: {payer}.",
        }
        for number, what, payer, other in clauses
    ]


def _finance() -> Rows:
    years = ((206.0, 181.0), (90.0, 72.0), (415.0, 402.5), (60.6, 50.5), (77.0, 70.0), (99.2, 80.0))
    return [
        {
            "question": "By how many millions did net sales grow?",
            "context": f"In millions | 2019 | 2018\nnet sales | $ {now} | $ {before}",
            "answer": f"{now - before:.1f}",
            "kind": "number",
            "reasoning": f"Net sales were {now} and {before}. {now} - {before} = {now - before:.1f}",
        }
        for now, before in years
    ]


def _code() -> Rows:
    tasks = (
        ("turns a text round", "turned", "text", "text[::-1]", "'abc'", "'xyz1'"),
        (
            "keeps the even numbers",
            "even",
            "numbers",
            "[n for n in numbers if n % 2 == 0]",
            "[1, 2, 4]",
            "[8, 9]",
        ),
        (
            "counts the vowels",
            "vowels",
            "text",
            "sum(one in 'aeiou' for one in text)",
            "'anaemia'",
            "'queue'",
        ),
        ("squares each number", "squares", "numbers", "[n * n for n in numbers]", "[1, 2, 3]", "[9]"),
    )
    return [
        {
            "task_id": number,
            "text": f"Write a function {name} that {what}.",
            "code": f"def {name}({given}):\n    return {result}",
            "test_list": [f"assert {name}({shown}) == {_result(given, result, shown)!r}"],
            "challenge_test_list": [f"assert {name}({hidden}) == {_result(given, result, hidden)!r}"],
            "test_setup_code": "",
        }
        for number, (what, name, given, result, shown, hidden) in enumerate(tasks)
    ]


def _result(given: str, result: str, argument: str) -> Any:
    return eval(f"(lambda {given}: {result})({argument})")


TASKS: dict[str, tuple[dict[str, Any], Rows]] = {
    "numbers": ({"accuracy": {}, "format": FORM}, _numbers()),
    "numbers with units": ({"accuracy": {}, "format": FORM}, _units()),
    "mathematics": ({"math": {"timeout_seconds": 300.0}, "format": FORM}, _mathematics()),
    "law": ({"accuracy": {}, "citations": {"weight": 0.3}, "format": FORM}, _law()),
    "finance": ({"accuracy": {}, "figures": {"weight": 0.3}, "format": FORM}, _finance()),
    "code": ({"unit_tests": {}, "format": FORM}, _code()),
}
