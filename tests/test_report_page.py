"""The page: complete, self-contained, accessible, and safe from what a model writes."""

from __future__ import annotations

import base64
import hashlib
import re
from itertools import pairwise

import pytest
from evaluation_support import OPTIONS, REASONING, RIGHT, WRONG, FakeSampler, NoMigraine, evaluated, make_case
from html_support import Page

from grandrounds.errors import RunError
from grandrounds.evaluation import Comparison, compare
from grandrounds.report.curves import curves
from grandrounds.report.page import comparison_page, write_page
from grandrounds.response import Grammar

HOSTILE = """</pre></article><script>alert('x')</script><img src=x onerror="alert(1)">{{ 7 * 7 }}"""


ROWS = [
    {"round": i, "accuracy": 0.5 + i / 100, "reward": i / 10, "completions/mean_length": 90 + i}
    for i in range(1, 41)
]


def make_comparison(texts=None, names=("regular", "cold start", "GRPO"), cases=None) -> Comparison:
    cases = cases or [make_case(f"case-{i}", sex="woman" if i % 2 else "man") for i in range(40)]
    wrong = {case.id: WRONG for case in cases}
    last = {cases[0].id: WRONG, cases[-1].id: WRONG, **(texts or {})}
    regular = dict(list(wrong.items())[: len(cases) // 2])
    samplers = [
        FakeSampler(regular),
        FakeSampler(dict(list(wrong.items())[: len(cases) // 4])),
        FakeSampler(last),
    ]
    return compare(
        {n: evaluated(s, cases=cases, knowledge=NoMigraine()) for n, s in zip(names, samplers, strict=True)}
    )


@pytest.fixture(scope="module")
def text() -> str:
    comparison = make_comparison()
    return comparison_page(
        comparison,
        title="Regular and reasoning",
        notice="Teaching world, not clinical knowledge.",
        metrics=ROWS,
        further={"unseen phrasings": comparison},
        about={"Seed": "0"},
    )


def test_page_is_well_formed_with_unique_ids_and_one_top_heading(text):
    page = Page(text)
    assert page.open == []
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert len(page.all("h1")) == 1
    assert page.all("html")[0]["lang"] == "en"
    assert len(page.all("caption")) == len(page.all("table"))
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert all(later - level <= 1 for level, later in pairwise(levels))


def test_what_opens_says_what_it_opens(text):
    names = [re.sub(r"<.*?>", "", one) for one in re.findall(r"<summary>(.*?)</summary>", text)]
    assert any(re.fullmatch(r"As the model wrote it: GRPO, case case-\d+", name) for name in names)
    assert len(names) == len(set(names))


def test_page_fetches_nothing(text):
    page = Page(text)
    assert not re.search(r"https?:|url\(|@import|//[a-z]", text)
    assert not [a for _, a in page.elements if "src" in a]
    assert [a["href"] for _, a in page.elements if "href" in a] == ["#cases"]


def test_security_policy_allows_the_pages_own_script_only(text):
    page = Page(text)
    (script,) = page.scripts
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


def test_every_drawing_is_told_in_words(text):
    told = [attributes.get("aria-label") for attributes in Page(text).all("svg")]
    axes = text.count('<tr class="ticks" aria-hidden="true">')
    assert told.count(None) == axes > 0
    assert "GRPO: 95.0 %, 95 % interval 83.5 to 98.6" in told


def test_page_says_what_it_shows(text):
    words = Page(text).text
    for part in (
        "Teaching world, not clinical knowledge.",
        "95.0 %",
        "exact McNemar test",
        "of 40 cases: up to 4 of each outcome",
        "unseen phrasings",
        "By sex",
        "Right answers",
        "only GRPO right",
        "only regular right",
        "Pericarditis leads Migraine by 2",
        "as well as successes",
    ):
        assert part in words


def test_losses_are_shown(text):
    outcomes = [a["data-outcome"] for a in Page(text).all("article")]
    assert {"gained", "lost", "both_right", "both_wrong"} == set(outcomes)


def test_hostile_responses_are_text():
    cases = [make_case(f"case-{i}") for i in range(3)]
    reasoning = REASONING.replace("chest pain; no fever", f"{HOSTILE}; no fever")
    texts = {
        "case-1": Grammar().render(reasoning, HOSTILE),
        "case-2": HOSTILE,
        "case-0": Grammar().render(HOSTILE, "B. Pericarditis"),
    }
    text = comparison_page(make_comparison(texts, cases=cases), about={"Model": HOSTILE}, notice=HOSTILE)
    page = Page(text)
    assert page.open == []
    assert len(page.all("script")) == len(page.scripts) == 1
    assert page.all("img") == []
    assert not [name for _, a in page.elements for name in a if name.startswith("on")]
    # As the notice, the model, and each place the three responses stand in: nothing is lost, nothing is computed.
    assert "".join(page.words).count(HOSTILE) >= 8


def test_hostile_cases_and_names_are_text():
    case = make_case(f"id{HOSTILE}", sex=HOSTILE)
    other = make_case("other", sex='" onload="alert(1)')
    hostile = type(case)(
        **{**vars(case), "question": HOSTILE, "options": {**OPTIONS, "C": HOSTILE}, "context": (HOSTILE,)}
    )
    names = (HOSTILE, 'b" onmouseover="alert(1)', "GRPO")
    comparison = make_comparison(names=names, cases=[hostile, other])
    page = Page(comparison_page(comparison, title=HOSTILE, further={HOSTILE: comparison}))
    assert page.open == []
    assert len(page.all("script")) == 1
    assert page.all("img") == []
    assert not [name for _, a in page.elements for name in a if name.startswith("on")]


def test_page_of_two_policies_without_extras_stands():
    comparison = compare({"before": evaluated(FakeSampler({"case-0": WRONG})), "after": evaluated()})
    page = Page(comparison_page(comparison))
    assert page.open == []
    assert "How after learned" not in " ".join(page.words)


def test_page_of_several_samples_speaks_of_them():
    comparison = compare({n: evaluated(FakeSampler(otherwise=[RIGHT, WRONG]), samples=4) for n in ("a", "b")})
    text = comparison_page(comparison)
    assert "4 answers to each" in text
    assert "Majority vote" in text
    assert "Sign test" in text


def test_writing_where_one_cannot_is_an_error_with_the_path(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(RunError, match="cannot be written"):
        write_page(blocked / "page.html", make_comparison())


def test_page_is_the_same_every_time(tmp_path):
    for name in ("one", "two"):
        write_page(tmp_path / name / "page.html", make_comparison(), metrics=ROWS)
    assert (tmp_path / "one/page.html").read_bytes() == (tmp_path / "two/page.html").read_bytes()


def test_curves_stay_within_their_chart():
    for curve in curves(ROWS):
        for pair in f"{curve.raw} {curve.smooth}".split():
            x, y = map(float, pair.split(","))
            assert 44 <= x <= 308
            assert 12 <= y <= 124


def test_curves_leave_out_what_is_missing_or_not_a_number():
    rows = [
        {"round": 1, "accuracy": 0.5, "reward": None},
        {"round": 2, "accuracy": float("nan")},
        {"round": 3},
    ]
    assert curves(rows) == ()
    assert curves([]) == ()


def test_a_constant_curve_is_drawn():
    (curve,) = curves([{"round": i, "reward": 0.0} for i in range(1, 5)])
    assert "nan" not in curve.raw
    (curve,) = curves([{"round": i, "reward": 3e-4} for i in range(1, 5)])
    assert [float(label) for _, label in curve.marks] == pytest.approx([2.7e-4, 3e-4, 3.3e-4])
