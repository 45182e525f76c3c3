"""The report on a run: complete, self-contained, accessible, honest about what is missing, safe from a model's text."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from evaluation_support import REASONING, WRONG, make_case
from html_support import Page
from report_support import cases, compared, facts_of, tried, write_run

from grandrounds.evaluation import CaseResult, Comparison
from grandrounds.evaluation.calibration import calibration
from grandrounds.evaluation.statistics import mcnemar_exact, wilson
from grandrounds.report.run.audit import payments
from grandrounds.report.run.facts import Measured, RunFacts, read_logs
from grandrounds.report.run.licences import licence_of
from grandrounds.report.run.limits import limits_of
from grandrounds.report.run.page import run_report
from grandrounds.report.run.shown import MOST_REGRESSIONS, regressions
from grandrounds.report.words import p_value
from grandrounds.response import Grammar
from grandrounds.shares import percent, percents, points
from grandrounds.training.trace import read_trace

NOTHING = Measured(not_compared="there was no time", not_tried="there was no time")
HOSTILE = (
    "</pre></article><script>alert('x')</script><img src=x onerror=\"alert(1)\">{{ 7 * 7 }}<b>"
    "\x1b[31mred\x1b[0m\x07\u202egpj.exe\u2066\x00\ud800&lt;"
)
SHOWN = HOSTILE
for _char in ("\x1b", "\x07", "\x00", "\u202e", "\u2066", "\ud800"):
    SHOWN = SHOWN.replace(_char, f"[U+{ord(_char):04X}]")


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> RunFacts:
    return facts_of(write_run(tmp_path_factory.mktemp("runs") / "run").path)


@pytest.fixture(scope="module")
def text(facts: RunFacts) -> str:
    return run_report(facts)


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def test_nothing_in_the_file_leads_out_of_it_or_runs(text: str, page: Page) -> None:
    assert (
        page.all("script")
        == page.all("link")
        == page.all("img")
        == page.all("iframe")
        == page.all("form")
        == []
    )
    assert not re.search(r"https?:|url\(|@import|@font-face|src=|//[a-z]", text)
    assert {a["href"][0] for _, a in page.elements if a.get("href")} == {"#"}
    assert not [name for _, a in page.elements for name in a if name.startswith("on") or name == "style"]


def test_the_security_policy_forbids_all_but_the_files_own_style(text: str, page: Page) -> None:
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv"))
    wanted = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert policy == wanted


def test_it_can_be_read_without_eyes_and_without_a_mouse(text: str, page: Page) -> None:
    assert page.open == []
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later - level <= 1 for level, later in pairwise(levels))
    for landmark in ("header", "nav", "main", "footer"):
        assert len(page.all(landmark)) == 1
    assert all(a["aria-labelledby"] in ids for a in page.all("section"))
    assert all(a["href"][1:] in ids for a in page.all("a"))
    assert page.all("html")[0]["lang"] == "en"
    axes = text.count('<tr class="ticks" aria-hidden="true">')
    assert len([a for a in page.all("th") if "scope" not in a]) == axes
    assert len(page.all("caption")) == len(page.all("table"))
    drawings = [a for a in page.all("svg") if a.get("role") == "img"]
    assert all(a["aria-label"] for a in drawings)
    assert len(page.all("svg")) == len(drawings) + axes
    scrolled = [a for _, a in page.elements if "scroll" in (a.get("class") or "").split()]
    assert all(a.get("tabindex") == "0" and a.get("aria-label") for a in scrolled)


def test_every_field_to_sign_has_a_name(text: str, page: Page) -> None:
    assert all(a.get("aria-label") for a in page.all("textarea")[:-1])
    assert text.count("<label") >= len(page.all("input"))
    for word in ("Decision", "Name", "Role", "Signature", "to be filled"):
        assert word in page.text
    assert [a["value"] for a in page.all("input") if "value" in a] == []


def test_the_numbers_are_those_of_a_plain_computation(facts: RunFacts, page: Page) -> None:
    # regular is right on 20 of 40, reasoning on 38; regular alone on the last 2, reasoning alone on the first 20
    for right in (20, 38):
        assert f"{percent(right / 40)} {percents(wilson(right, 40))}" in page.text
    assert points(18 / 40) in page.text
    assert "2 : 20" in page.text
    plain = p_value(mcnemar_exact(2, 20).log10_p).replace(" ", "\N{NO-BREAK SPACE}")
    assert plain in page.text.replace(" ", "\N{NO-BREAK SPACE}")
    found = calibration(facts.measured.tried.evaluations["reasoning"])
    assert f"expected calibration error {found.error:.3f}" in page.text
    assert f"{percent(0.5)} {percents(wilson(20, 40))}" in page.text  # half of the answers moved
    women = f"{percent(19 / 20)} ({percents(wilson(19, 20))})"
    assert women in page.text
    assert "these are 3 intervals" not in page.text


def test_all_that_was_asked_is_there(page: Page) -> None:
    for part in (
        "What was trained on what",
        "SHA-256",
        "recipe.yaml",
        "Licence of the base model",
        "Reward component: planted",
        "Entropy per token",
        "Tokens sampled per second",
        "regular → reasoning",
        "Cohen’s h",
        "By sex",
        "By length of the case",
        "Many comparisons",
        "Confidence here is agreement with itself",
        "risk by coverage",
        "Options in another order",
        "None of the above",
        "The decisive finding removed",
        "Round 6, length_creep (stood after the last round)",
        "`wordy` pays for it",
        "The worst regressions",
        "One run with one seed (0)",
        "TRIPOD-LLM",
    ):
        assert part in page.text, part


def test_behind_every_curve_stands_its_table(facts: RunFacts, page: Page) -> None:
    words = page.text
    assert words.count("The numbers of “") == words.count("at first,")
    assert "The numbers of “Reward” Reward Round Value 1 0.1 2 0.2 3 0.3" in words


def test_a_report_is_the_same_every_time(facts: RunFacts, text: str) -> None:
    assert run_report(facts) == text


@pytest.mark.parametrize(
    "place", ["text", "answer", "reasoning", "question", "option", "id", "tag", "name", "log"]
)
def test_hostile_text_is_shown_as_text(place: str, tmp_path: Path) -> None:
    chosen = cases(4)
    texts = {}
    if place == "text":
        texts = {"case-3": HOSTILE}
    if place in ("answer", "reasoning"):
        reasoning = HOSTILE if place == "reasoning" else REASONING
        texts = {"case-3": Grammar().render(reasoning, HOSTILE if place == "answer" else "A. Migraine")}
    if place == "question":
        chosen[3] = replace(chosen[3], question=HOSTILE)
    if place == "option":
        chosen[3] = replace(chosen[3], options={**chosen[3].options, "C": HOSTILE})
    if place == "id":
        chosen[3] = replace(chosen[3], id=HOSTILE.replace("\ud800", ""))
    if place == "tag":
        chosen = [replace(case, tags={"sex": HOSTILE if i % 2 else "man"}) for i, case in enumerate(chosen)]
    run = write_run(tmp_path / "run", rollouts=0)
    facts = facts_of(run.path, Measured(compared(texts, chosen), tried(chosen), None))
    if place == "name":
        facts = replace(facts, name=HOSTILE)
    if place == "log":
        found = {"sign": HOSTILE, "what": HOSTILE, "cause": HOSTILE, "hint": HOSTILE}
        row = {"round": 1, "findings": [found], "said": [HOSTILE]}
        facts = replace(facts, logs=replace(facts.logs, monitor=[row], recipe_text=HOSTILE))
    written = run_report(facts)
    written.encode()  # a lone surrogate could not be written to a file
    page = Page(written)
    assert page.open == []
    assert page.all("script") == page.all("img") == page.all("b") == page.all("article")[:0]
    assert not [name for _, a in page.elements for name in a if name.startswith("on")]
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069\ud800]", written)
    shown = SHOWN.replace("[U+D800]", "") if place == "id" else SHOWN
    assert shown in "".join(page.words)


def endless(comparison: Comparison) -> Comparison:
    """The same, with a million letters wherever a case or a response has text."""
    line = "x" * 1_000_000

    def stretched(case: CaseResult) -> CaseResult:
        said = {"text": line, "reasoning": line, "answer": line, "invented": (line,) * 50}
        answers = tuple(replace(answer, **said) for answer in case.answers)
        return replace(case, question=line, gold=line, options={"A": line}, answers=answers)

    evaluations = {
        name: replace(evaluation, cases=tuple(map(stretched, evaluation.cases)))
        for name, evaluation in comparison.evaluations.items()
    }
    return replace(comparison, evaluations=evaluations)


def test_endless_lines_are_cut_with_a_note(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", rollouts=0)
    text = run_report(facts_of(run.path, Measured(endless(compared(chosen=cases(8))), None, None)))
    assert "[cut here: 992,000 more characters are not shown]" in text
    assert "… (1,000,000 characters)" in text
    assert len(text.encode()) < 1_000_000


def test_a_long_run_stays_small_and_says_what_is_left_out(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", rounds=3000, rollouts=0)
    long = [replace(make_case(f"case-{i}"), question="pain " * 4000) for i in range(200)]
    wrong = dict.fromkeys([case.id for case in long[100:]], WRONG)
    text = run_report(facts_of(run.path, Measured(compared(wrong, long), tried(long), None)))
    assert len(text.encode()) < 1_500_000
    words = Page(text).text
    assert "every 50 rounds, of 3,000" in words
    assert f"Shown: {MOST_REGRESSIONS}; the other {100 - MOST_REGRESSIONS} are left out" in words


def test_what_was_not_run_is_marked_and_never_empty(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    page = Page(run_report(facts_of(run.path, NOTHING)))
    assert page.open == []
    assert page.text.count("Not run: there was no time") >= 5
    assert "From the run’s logs alone" in page.text
    assert "No policy was evaluated for this report: there was no time." in page.text
    assert "7a Measures Which measures, and why these to be filled" in page.text
    assert "What the run itself measured on held-out cases while training" in page.text


def test_a_run_with_next_to_nothing_is_reported(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", rounds=8, rollouts=0, guard={"enabled": False})
    for name in ("metrics.jsonl", "evaluations.jsonl", "monitor.jsonl", "environment.json"):
        (run.path / name).unlink()
    page = Page(run_report(facts_of(run.path, NOTHING)))
    assert page.open == []
    for part in (
        "environment.json is missing",
        "metrics have fewer than two rounds",
        "monitor.jsonl is missing or empty (guard.enabled is false)",
        "the run’s folder holds no rollouts",
        "This run has not come to its end: 0 of 8 rounds are done",
        "No monitor watched this run",
    ):
        assert part in page.text, part


def test_rollouts_of_an_earlier_version_suspect_nothing_and_say_so(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    run = write_run(tmp_path / "run", rollouts=1)
    table = pq.read_table(run.path / "rollouts/000001.parquet").drop(["given"])
    pq.write_table(table, run.path / "rollouts/000001.parquet")
    assert (
        "no rollouts that say how answers were understood"
        in Page(run_report(facts_of(run.path, NOTHING))).text
    )


def test_changes_and_rollbacks_are_told(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", rollouts=0)
    run.record_changes(3, {"rounds": (4, 6)})
    run.append_rolled_back({"round": 5, "to": 2, "findings": []})
    page = Page(run_report(facts_of(run.path, NOTHING)))
    assert "Changed after round 3 rounds: 4 → 6" in page.text
    assert "The run was taken back to round 2" in page.text
    assert "after round 3: rounds" in page.text  # in the checklist's item on updating


def test_limits_follow_from_the_facts(facts: RunFacts) -> None:
    found = " ".join(limits_of(facts))
    assert "4 of the 40 evaluated cases were also looked at while training" in found
    assert "40 cases are few" in found
    assert "What regular was trained on is not known here" in found
    assert "What reasoning was trained on" not in found
    about = replace(facts.measured.cases, trained_on={"reasoning": 7}, own=False, source="other.jsonl")
    other = replace(facts, measured=replace(facts.measured, cases=about))
    found = " ".join(limits_of(other))
    assert "reasoning was trained on copies of 7 of the 40 evaluated cases" in found
    assert "not held out from the run's own source, but of other.jsonl" in found


def test_the_split_that_a_run_recorded_is_compared_with_the_one_built_now(facts: RunFacts) -> None:
    hashes = facts.measured.cases.hashes
    recorded = {part: {"cases": 40, "sha256": digest} for part, digest in hashes.items()}
    same = replace(facts, logs=replace(facts.logs, split=recorded))
    assert Page(run_report(same)).text.count("built again for this report: the same") == 2
    recorded["train"]["sha256"] = "0" * 64
    assert "BUILT AGAIN, THEY DIFFER" in Page(run_report(same)).text


def test_regressions_come_in_the_order_of_the_stated_rule() -> None:
    found = regressions(compared())
    assert {one.id for one in found} == {"case-38", "case-39"}
    assert {(one.other, one.better, one.drop) for one in found} == {("regular", 1, 1.0)}


def test_what_components_paid_is_the_mean_of_the_rollouts(facts: RunFacts) -> None:
    found = payments(facts.logs)
    rows = read_trace(facts.logs.path).to_pylist()
    by_name = {one.component: one for one in found.rows}
    assert by_name["accuracy"].right == (1, 1)
    assert by_name["accuracy"].wrong == (0, 0)
    wrong = [row["rewards/planted"] for row in rows if not row["correct"]]
    assert by_name["planted"].wrong[1] == pytest.approx(sum(wrong) / len(wrong))
    assert by_name["planted"].weight == 0.5
    assert (found.first, found.last) == ((1, 2), (1, 2))


def test_a_component_that_pays_for_length_is_found(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    run = write_run(tmp_path / "run", rollouts=1)
    path = run.path / "rollouts/000001.parquet"
    table = pq.read_table(path)
    paid = pa.array([0.01 * length for length in table["length"].to_pylist()])
    place = table.column_names.index("rewards/planted")
    pq.write_table(table.set_column(place, "rewards/planted", paid), path)
    found = {one.component: one for one in payments(read_logs(run.path)).rows}
    assert found["planted"].clear
    assert found["planted"].per_100_tokens == pytest.approx(0.5)  # 0.01 a token, weight 0.5
    assert not found["accuracy"].clear


def test_a_licence_is_read_from_a_card_where_there_is_one(tmp_path: Path) -> None:
    assert licence_of(str(tmp_path)) == ""
    card = tmp_path / "README.md"
    for text, licence in {
        "---\nlicense: apache-2.0\n---\n# Model": "apache-2.0",
        "---\nlicense: other\nlicense_name: gemma\n---\n": "gemma",
        "---\nlicense: [mit, cc-by-4.0]\n---\n": "mit, cc-by-4.0",
        "---\n: : :\n---\n": "",
        "# No front matter": "",
        "---\n- a list\n---\n": "",
    }.items():
        card.write_text(text, encoding="utf-8")
        assert licence_of(str(tmp_path)) == licence
    assert licence_of("no such/name at all") == ""
    (tmp_path / "cases.jsonl").write_text(json.dumps({}), encoding="utf-8")
    card.write_text("---\nlicense: mit\n---\n", encoding="utf-8")
    assert licence_of(str(tmp_path / "cases.jsonl"), "dataset") == "mit"
