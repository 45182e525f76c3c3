"""The page in a browser, where Playwright and a Chromium are there: it works, stays on this machine, and shows hostile
text as text."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from test_view_api import HOSTILE
from view_support import make_run, make_trl_run, random_rows, row, write_lines, write_round

pytest.importorskip("fastapi")
pytest.importorskip("polars")
uvicorn = pytest.importorskip("uvicorn")

from grandrounds.view.app import make_app  # noqa: E402
from grandrounds.view.run import open_run  # noqa: E402
from grandrounds.web.port import bound  # noqa: E402


@contextmanager
def served(*folders: Path) -> Iterator[str]:
    """The address of a server of these runs."""
    app = make_app({folder.name: open_run(folder) for folder in folders})
    with bound("127.0.0.1", 0) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        server.should_exit = True
        thread.join(timeout=20)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with a run, a hostile run and one of TRL's."""
    folder = tmp_path_factory.mktemp("runs")
    metrics = [
        {"round": number, "reward": number / 10, "rewards/accuracy/mean": 0.5} for number in range(1, 6)
    ]
    ours = make_run(folder / "ours", random_rows(0), metrics)
    hostile = make_run(folder / f"hostile {chr(0x202E)}<b>", (), [{"round": 1, HOSTILE: 1.0, "reward": 1.0}])
    texts = {name: HOSTILE for name in ("case_id", "prompt", "question", "completion", "answer", "gold")}
    long = row(1, 0, 1, **{**texts, "completion": "<b>" * 350_000})
    write_round(hostile, [row(1, 0, 0, **texts, facts=[HOSTILE], defects=[HOSTILE]), long])
    write_lines(hostile / "monitor.jsonl", [warned(1, HOSTILE, hint=HOSTILE)])
    with served(ours, hostile, make_trl_run(folder / "trl")) as where:
        yield where


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """A page on which any console error, failed script or request that leaves the server fails the test."""
    wrong: list[str] = []
    opened = browser.new_page(viewport={"width": 400, "height": 800})
    opened.set_default_timeout(20_000)
    opened.on("console", lambda told: wrong.append(told.text) if told.type in ("error", "warning") else None)
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("dialog", lambda dialog: (wrong.append("a dialog"), dialog.dismiss()))
    opened.on("request", lambda asked: None if asked.url.startswith(address) else wrong.append(asked.url))
    yield opened
    assert wrong == []
    opened.close()


def warned(number: int, what: str, **further: str) -> dict[str, Any]:
    """A row of monitor.jsonl."""
    return {"round": number, "findings": [{"sign": "s", "what": what, **further}], "said": ["s"]}


def show(page: Any, address: str, place: str) -> None:
    page.goto("about:blank")
    page.goto(f"{address}{place}")
    page.wait_for_selector("#main[data-drawn]")


def test_every_view_fits_a_phone_and_has_names_for_all_controls(page: Any, address: str) -> None:
    for place in ("#/curves", "#/groups", "#/group/0/1/0", "#/group/1/1/0", "#/group/2/1/0"):
        show(page, address, place)
        assert page.evaluate("document.documentElement.scrollWidth") == 400, place
        nameless = page.evaluate(
            "[...document.querySelectorAll('a, button, input, select, svg[tabindex]')]"
            ".filter((one) => !(one.textContent.trim() || one.getAttribute('aria-label') || one.labels?.length))"
            ".map((one) => one.outerHTML)"
        )
        assert nameless == [], place
        names = page.evaluate(
            "[...document.querySelectorAll('button, summary, [role=group], [role=region]')]"
            ".map((one) => one.getAttribute('aria-label') ?? one.textContent)"
        )
        assert len(names) == len(set(names)), place
        levels = page.evaluate(
            "[...document.querySelectorAll('h1, h2, h3, h4')].map((one) => Number(one.tagName[1]))"
        )
        assert all(after <= before + 1 for before, after in pairwise(levels)), (place, levels)


def test_the_link_to_the_content_stays_in_its_view(page: Any, address: str) -> None:
    show(page, address, "#/groups?unit=completions")
    page.keyboard.press("Tab")
    assert page.inner_text(":focus") == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("[document.activeElement.id, location.hash]") == [
        "main",
        "#/groups?unit=completions",
    ]
    assert page.inner_text("#found").startswith("260 completions")


FOCUSED = """() => {
    const one = document.activeElement, style = getComputedStyle(one), box = one.getBoundingClientRect();
    if (one === document.body) return null;
    const ringed = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
    const inSight = box.width > 0 && box.bottom > 0 && box.top < innerHeight;
    return [window.controls.indexOf(one), ringed && inSight ? "" : one.outerHTML];
}"""
CONTROLS = """window.controls = [
    ...document.querySelectorAll('a[href], button, input, select, summary, [tabindex="0"]')
].filter((one) => !one.disabled && one.checkVisibility())"""


@pytest.mark.parametrize("place", ["#/curves", "#/groups", "#/group/0/1/0", "#/group/1/1/0"])
def test_tab_visits_every_control_in_order_in_sight_and_leaves_the_page(
    page: Any, address: str, place: str
) -> None:
    show(page, address, place)
    page.evaluate(f"{CONTROLS}; null")
    count = page.evaluate("window.controls.length")
    for key, order in (("Tab", range(count)), ("Shift+Tab", reversed(range(count)))):
        for number in order:
            page.keyboard.press(key)
            assert page.evaluate(FOCUSED) == [number, ""]
        page.keyboard.press(key)
        # Beyond the last one the browser's own controls follow; without a window, before the first one too.
        assert page.evaluate(FOCUSED) in (None, [count - 1, ""])


def test_filters_search_and_pages_are_reached_by_keyboard(page: Any, address: str) -> None:
    show(page, address, "#/groups?unit=completions")
    assert page.inner_text("#found").startswith("260 completions in 65 groups")
    page.focus("[data-filter=no_variance]")
    page.keyboard.press("Enter")
    page.wait_for_selector("[data-filter=no_variance][aria-pressed=true]:focus")
    assert ", of 260 completions" in page.inner_text("#found")
    page.fill("#search", "nothing like this")
    page.keyboard.press("Enter")
    page.wait_for_selector("#found:text-matches('^0 completions')")
    show(page, address, "#/groups?unit=completions")
    page.click("[aria-label='Next page']")
    page.wait_for_selector("[aria-label='Page before']")
    page.click("tbody a >> nth=0")
    page.wait_for_selector("article.completion[data-chosen]")


def test_arrow_keys_read_a_curve(page: Any, address: str) -> None:
    show(page, address, "#/curves")
    page.focus("svg[aria-label^='Reward:']")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    told = page.inner_text("figure:has(svg[aria-label^='Reward:']) figcaption")
    assert told.startswith("Round 2: ours 0.2")
    for key, number in (("ArrowUp", 3), ("ArrowDown", 2)):
        page.keyboard.press(key)
        assert page.get_attribute(":focus", "aria-valuenow") == str(number)
    slider = page.locator("svg[aria-label^='Reward:']")
    assert [slider.get_attribute(name) for name in ("role", "aria-valuenow", "aria-valuetext")] == [
        "slider",
        "2",
        told,
    ]
    page.keyboard.press("Escape")
    assert slider.get_attribute("aria-valuetext") == "round 5"
    assert " now" in page.inner_text("figure:has(svg[aria-label^='Reward:']) figcaption")


def test_hostile_text_is_text_everywhere(page: Any, address: str) -> None:
    for place in ("#/curves", "#/groups?run=1", "#/groups?run=1&unit=completions", "#/group/1/1/0"):
        show(page, address, place)
        shown = page.inner_text("body")
        assert "<img src=x onerror=alert(1)>" in shown, place
        assert "␛[31m" in shown
        assert "⟨U+202E⟩" in shown
        assert (
            page.evaluate(
                "/[\\u202a-\\u202e\\u2066-\\u2069\\u001b]/.test(document.documentElement.textContent)"
            )
            is False
        )
        assert page.query_selector("main img, main script, main b:not(.worth b)") is None
    page.click("text=Show all")
    page.wait_for_selector("div.whole")
    assert page.evaluate("document.querySelector('div.whole').textContent.length") == 1_050_000
    assert page.query_selector("div.whole:focus") is not None  # its button, which had the focus, is gone


def test_what_a_mark_says_is_heard(tmp_path: Path, browser: Any) -> None:
    run = make_run(tmp_path / "marked", (), [])
    write_round(run, [row(1, 0, 0)])
    with served(run) as where:
        opened = browser.new_page()
        show(opened, where, "#/group/0/1/0")
        said = opened.locator("article.completion").aria_snapshot()
        assert "mark: fever (present)" in said
        assert "mark: rash (not found)" in said
        opened.close()


def test_a_new_round_appears_by_itself(tmp_path: Path, browser: Any) -> None:
    run = make_run(tmp_path / "live", (), [{"round": 1, "reward": 0.1}])
    with served(run) as where:
        opened = browser.new_page()
        opened.goto(where)
        opened.wait_for_selector("#live[data-live=yes]")
        opened.focus("svg[data-metric=reward]")
        write_lines(run / "metrics.jsonl", [{"round": 2, "reward": 0.3}])
        opened.wait_for_selector(".runcard:has-text('round 2 of 40')", timeout=20_000)
        assert opened.query_selector("svg[data-metric=reward]:focus") is not None
        assert opened.inner_text("#told") == ""  # rounds are told seldom, warnings at once
        write_lines(run / "monitor.jsonl", [warned(2, "Something new")])
        opened.wait_for_selector(
            "#told:text-is('round 2 of 40; 1 new warning')", state="attached", timeout=20_000
        )
        opened.close()


def test_the_last_group_leads_on_once_another_is_there(tmp_path: Path, browser: Any) -> None:
    run = make_run(tmp_path / "live", [row(1, 0, 0)], [{"round": 1, "reward": 0.1}])
    with served(run) as where:
        opened = browser.new_page()
        show(opened, where, "#/group/0/1/0")
        opened.wait_for_selector("#live[data-live=yes]")
        assert opened.locator("#steps a[rel=next]").count() == 0
        write_round(run, [row(2, 0, 0)])
        write_lines(run / "metrics.jsonl", [{"round": 2, "reward": 0.3}])
        opened.click("#steps a[rel=next]", timeout=20_000)
        opened.wait_for_selector("#steps:has-text('Round 2, group 1')")
        opened.go_back()
        opened.wait_for_selector("#steps:has-text('Round 1, group 1')")
        opened.close()


def test_what_is_read_focused_and_opened_outlasts_a_new_round(tmp_path: Path, browser: Any) -> None:
    run = make_run(tmp_path / "live", (), [{"round": 1, "reward": 0.1, "other": 1}])
    write_lines(run / "monitor.jsonl", [warned(number, "something") for number in range(1, 8)])
    with served(run) as where:
        opened = browser.new_page()
        opened.goto(where)
        opened.wait_for_selector("#live[data-live=yes]")
        for folded in ("earlier warnings", "Everything else"):
            opened.focus(f"summary:has-text('{folded}')")
            opened.keyboard.press("Enter")
        opened.focus("summary:has-text('earlier')")
        opened.evaluate("window.kept = document.activeElement; null")
        write_lines(run / "metrics.jsonl", [{"round": 2, "reward": 0.3, "other": 2}])
        opened.wait_for_selector(".runcard:has-text('round 2 of 40')", timeout=20_000)
        assert opened.evaluate("document.activeElement === window.kept")
        assert opened.locator("details[open]").count() == 2
        opened.focus("svg[data-metric=reward]")
        opened.keyboard.press("Home")
        opened.evaluate("window.kept = document.activeElement; window.label = window.kept.ariaLabel; null")
        write_lines(run / "metrics.jsonl", [{"round": 3, "reward": 0.5, "other": 3}])
        opened.wait_for_selector(".runcard:has-text('round 3 of 40')", timeout=20_000)
        assert opened.evaluate("document.activeElement === window.kept")
        assert opened.inner_text("figure:has(svg[data-metric=reward]) figcaption") == "Round 1: 0.1"
        assert opened.get_attribute(":focus", "aria-valuemax") == "3"
        # A new name or value of what has the focus would be read aloud, round after round.
        assert opened.evaluate("window.kept.ariaLabel === window.label")
        assert opened.get_attribute(":focus", "aria-valuetext") == "Round 1: 0.1"
        opened.keyboard.press("Shift+Tab")
        assert "0.5 now" in opened.get_attribute("svg[data-metric=reward]", "aria-label")
        opened.close()


def test_a_lost_connection_is_told_once(page: Any, address: str) -> None:
    page.add_init_script(
        "window.EventSource = class { addEventListener() {}"
        " set onerror(lost) { window.lost = lost; document.body.dataset.listens = ''; } }"
    )
    show(page, address, "#/curves")
    page.wait_for_selector("body[data-listens]")
    page.evaluate(
        "window.told = 0; new MutationObserver((all) => { window.told += all.length; })"
        ".observe(document.getElementById('live'), {childList: true, subtree: true, characterData: true}); null"
    )
    page.evaluate("window.lost(); null")
    page.evaluate("window.lost(); null")
    assert page.inner_text("#live").startswith("No connection")
    assert page.evaluate("window.told") == 1


def test_of_a_case_seen_often_the_visits_around_this_one_are_shown(tmp_path: Path, browser: Any) -> None:
    run = make_run(tmp_path / "often", (), [])
    for number in range(1, 31):
        write_round(run, [row(number, 0, 0)])
    with served(run) as where:
        opened = browser.new_page()
        for number, first in ((1, 1), (20, 14), (30, 19)):
            show(opened, where, f"#/group/0/{number}/0")
            visits = opened.locator(".history a")
            assert [visits.count(), visits.first.inner_text().splitlines()[0]] == [12, f"Round {first}"]
            assert opened.inner_text(".history a[aria-current]").startswith(f"Round {number}\n")
        assert opened.inner_text(".over > a") == "All 30 as a list"
        opened.close()
