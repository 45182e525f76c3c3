"""The reward `figures`: numbers of the report and of right calculations count, others cost."""

from __future__ import annotations

import pytest
from rewards_support import answered, open_case, rewards, score

from grandrounds.domains.finance.reckoning import calculations_in, tokens_of
from grandrounds.errors import RewardError
from grandrounds.types import Answer

REPORT = """Revenue (in millions) | 2019 | 2018
net sales | $ 206.0 | $ 181.0
operating margin | 9.37% | 8.5%
employees | 12,345 | 11,000
loss | (1,200) | 300"""


def figured(reasoning: str, report: str = REPORT, **options: object) -> float | None:
    case = open_case(Answer("number", "13.8%", value=13.8, unit="%"), context=(report,))
    return score("figures", answered(case, reasoning, "13.8%"), **options)


@pytest.mark.parametrize(
    "reasoning",
    [
        "Net sales were 206.0 in 2019 and 181.0 in 2018.",
        "Net sales were $206 million in 2019 and $181 million before.",
        "(206.0 - 181.0) / 181.0 = 13.8%",
        "206.0 - 181.0 = 25.0, and 25.0 / 181.0 = 0.138 = 13.8%.",
        "(206.0 − 181.0) ÷ 181.0 × 100 = 13.8%",
        "1. Growth = 206 - 181 = 25\n2. 25 / 181 ≈ 0.1381\nSo 14% in all.",
        "The margin rose from 8.5% to 9.4%.",
        "9.37% - 8.5% = 0.87%",
        "The loss was 1,200, then came 300.",
        "Average: (206 + 181) / 2 = 193.5",
        "Net sales of $206 million / 12,345 = $16,687 per head",
        "Step 1: 206.0 x 1000 = 206,000",
        "206 - 181 = **$25.0 million**",
        "181.0 - 206.0 = -25",
        r"\frac{206}{181} = 1.138, so 1.138x; \(206 \times 2 = 412\)",
        "By the 10-K, net sales were 206.0 and 181.0.",
    ],
)
def test_numbers_of_the_report_and_of_right_calculations_count(reasoning: str) -> None:
    assert figured(reasoning) == 1.0, calculations_in(tokens_of(reasoning))


@pytest.mark.parametrize(
    "reasoning",
    [
        "It is obvious.",
        "Net sales were 216.0 and 191.0.",
        "Growth was 13.9%, I am sure.",
        "Growth was 13.8%: all agree.",  # right, and from nowhere
        "100 / 4 = 25",  # constants alone
        "13.8 = 13.8",
        "7 * 1 = 7",
        "27 / 197 = 13.7%",
        "9.4567% and 13.8123% show it.",
        "5 / 0 = 7",
        "206.55 and 181.77x",
    ],
)
def test_numbers_from_nowhere_earn_nothing(reasoning: str) -> None:
    assert figured(reasoning) == 0.0, calculations_in(tokens_of(reasoning))


def test_a_wrong_result_costs_although_it_stands_in_the_report() -> None:
    assert figured("206.0 - 181.0 = 300") == pytest.approx(1 / 3)
    assert figured("206.0 - 181.0 = 25") == 1.0
    assert figured("206.0 - 181.0 = 26") == pytest.approx(1 / 3)


def test_what_follows_from_an_invented_number_is_not_supported() -> None:
    assert figured("206.0 - 150.0 = 56.0 and 56.0 / 206.0 = 27.2%") == 0.0


def test_in_a_chain_of_steps_the_first_one_decides() -> None:
    assert figured("Growth = (206 - 181) / 181 = (206 - 181) / 181.0 = 0.138 = 13.8%") == 1.0
    assert figured("Growth = (206 - 181) / 181 = 25 / 181 = 0.138") == pytest.approx(4 / 6)  # 25 is no result
    assert figured("206 - 181 = 206 + 181 = 387") == pytest.approx(3 / 5)


def test_a_result_stands_behind_its_calculation() -> None:
    assert figured("25 = 206 - 181") == pytest.approx(1 / 3)


def test_unsupported_numbers_are_named_and_a_case_without_numbers_has_no_score() -> None:
    case = open_case(Answer("text", "x"), context=(REPORT,))
    component = rewards(figures={}).parts["figures"].component
    made = component.scores([answered(case, "206.0 grew by 77%", "x")])[0]
    assert (made.value, made.note) == (0.0, ["77%"])
    assert figured("It grew by 5%.", report="No figures.") is None


@pytest.mark.parametrize("wrong", [0, 1.5, True])
def test_a_number_that_makes_no_sense_is_refused(wrong: object) -> None:
    with pytest.raises(RewardError, match="at_least"):
        figured("x", at_least=wrong)


def test_hostile_texts_are_read_quickly() -> None:
    for text in (
        "(" * 10_000 + "= 1",
        "1+" * 10_000 + "1 = 1",
        "9" * 10_000,
        "1 = " * 5_000,
        "-" * 10_000 + "1 = 1",
    ):
        assert figured(text) == 0.0
