"""How numbers are written: nothing that is not so, and nothing that needs a statistician."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import grandrounds
from grandrounds.domains.clinic.vignette import KEPT
from grandrounds.evaluation.compare import Pair
from grandrounds.evaluation.statistics import mcnemar_exact
from grandrounds.report.words import DEFECTS, chance, gain, listed, p_value, shortcut, split, tight, verdict
from grandrounds.response import Defect
from grandrounds.shares import percent, percents, points


def make_pair(lost: int, gained: int) -> Pair:
    test = mcnemar_exact(lost, gained)
    difference = (gained - lost) / 600
    return Pair(
        before="regular",
        after="GRPO",
        gained=gained,
        lost=lost,
        both_right=500 - gained - lost,
        both_wrong=100,
        difference=difference,
        interval=(difference - 0.04, difference + 0.04),
        p=test.p,
        log10_p=test.log10_p,
    )


# A half goes up, as readers expect, wherever 100 times the share is one exactly.
SHARES = [
    (0.873, "87.3 %"),
    (1.0, "100.0 %"),
    (0.9999, "> 99.9 %"),
    (0.0, "0.0 %"),
    (0.0001, "< 0.1 %"),
    (0.0625, "6.3 %"),
    (0.1875, "18.8 %"),
    (0.0375, "3.8 %"),
    (0.9375, "93.8 %"),
    (0.285, "28.5 %"),
    (1 / 3, "33.3 %"),
    (0.99949999, "99.9 %"),
]


@pytest.mark.parametrize(("share", "text"), SHARES)
def test_a_share_is_rounded_in_one_way_and_nearly_all_is_not_written_as_all(share, text):
    assert percent(share) == text


def test_pages_write_shares_as_the_reports_do():
    if (node := shutil.which("node")) is None:
        pytest.skip("needs Node.js")
    module = Path(grandrounds.__file__).parent / "web" / "static" / "dom.js"
    shares = json.dumps([share for share, _ in SHARES])
    script = (
        f"import {{ percent }} from {json.dumps(module.as_uri())}; "
        f"console.log({shares}.map(percent).join('|'))"
    )
    told = subprocess.run(
        [node, "--input-type=module", "--eval", script], capture_output=True, text=True, check=True
    )
    assert told.stdout.strip().split("|") == [text for _, text in SHARES]


def test_without_a_decimal_and_in_intervals_a_half_goes_up_too():
    assert [percent(share, 0) for share in (0.125, 0.625, 0.5)] == ["13 %", "63 %", "50 %"]
    assert percents((0.0625, 0.1875)) == "6.3 to 18.8"


@pytest.mark.parametrize(
    ("difference", "text"),
    [(0.252, "+25.2"), (-0.031, "-3.1"), (0.0, "0.0"), (-0.0001, "0.0"), (-0.0625, "-6.3")],
)
def test_points_carry_their_sign(difference, text):
    assert points(difference) == text


@pytest.mark.parametrize(
    ("log10_p", "rich", "plain"),
    [
        (0.0, "p = 1.00", "p = 1.00"),
        (-0.5, "p = 0.32", "p = 0.32"),
        (-1.5, "p = 0.032", "p = 0.032"),
        (-26.4706, "p = 3.4 × 10⁻²⁷", "p = 3.4e-27"),
        (-3.0000001, "p = 1.0 × 10⁻³", "p = 1.0e-3"),
        (-602.5, "p = 3.2 × 10⁻⁶⁰³", "p = 3.2e-603"),
    ],
)
def test_p_values_never_become_zero(log10_p, rich, plain):
    assert (p_value(log10_p), p_value(log10_p, plain=True)) == (rich, plain)


@given(st.floats(-400, 0))
def test_plain_p_values_are_ascii_and_true(log10_p):
    text = p_value(log10_p, plain=True)
    assert text.isascii()
    if log10_p > -300:
        assert float(text.removeprefix("p = ")) == pytest.approx(10**log10_p, rel=0.06)


@pytest.mark.parametrize(
    ("log10_p", "text"),
    [
        (0.0, "nearly every time"),
        (-0.5, "about once in 3 times"),
        (-1.3, "about once in 20 times"),
        (-2.53, "about once in 300 times"),
        (-4.0, "about once in 10,000 times"),
        (-9.0, "less than once in a million times"),
    ],
)
def test_chance_is_said_in_round_numbers(log10_p, text):
    assert chance(log10_p) == text


def test_a_clear_gain_names_the_better_policy():
    assert verdict(make_pair(31, 182)).endswith("So GRPO answers cases like these better than regular.")


def test_a_clear_loss_is_called_one():
    assert verdict(make_pair(182, 31)).endswith("So regular answers cases like these better than GRPO.")


def test_no_difference_is_claimed_where_none_is_shown():
    assert "do not show that either is better" in verdict(make_pair(5, 12))


def test_policies_that_never_differ_cannot_be_told_apart():
    assert "never differed" in verdict(make_pair(0, 0))


def test_split_and_gain_name_both_sides():
    assert split(make_pair(31, 182), 600, 1) == (
        "Both answered the same 600 cases. GRPO was right where the other was wrong in 182 cases, regular in 31."
    )
    assert gain(make_pair(31, 182)) == "+25.2 percentage points (95 % interval +21.2 to +29.2)"


def test_names_are_listed_as_one_says_them():
    assert [listed(names) for names in (["a"], ["a", "b"], ["a", "b", "c"])] == ["a", "a and b", "a, b and c"]


def test_values_do_not_break_across_lines():
    assert tight("so p = 3.4 × 10⁻²⁷, 95 % of it") == "so p\xa0=\xa03.4\xa0×\xa010⁻²⁷, 95\xa0% of it"


def test_every_defect_has_words():
    assert set(DEFECTS) == {str(defect) for defect in Defect}


@pytest.mark.parametrize("name", [*KEPT, "naive Bayes", "label frequency", "label frequency, by rate"])
def test_a_baseline_whose_name_does_not_say_it_is_explained(name: str) -> None:
    assert 3 < len(shortcut(name).split()) < 15
    assert shortcut("majority letter") == ""


def test_a_share_in_whole_per_cent_is_no_more_certain_than_it_is() -> None:
    assert [percent(share, 0) for share in (0.0, 0.001, 0.414, 0.996, 1.0)] == [
        "0 %",
        "< 1 %",
        "41 %",
        "> 99 %",
        "100 %",
    ]


def test_shares_are_written_in_one_place() -> None:
    """`50%` stood beside `50.0 %`: a format of its own would bring that back."""
    source = Path(__file__).parents[1] / "src/grandrounds"
    found = [
        path.name for path in source.rglob("*.py") if re.search(r"\{[^{}\n]+:[+]?\.\d%\}", path.read_text())
    ]
    assert found == []
