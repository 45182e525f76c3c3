"""The playground in a browser, where Playwright and a Chromium are there: it works by keyboard, stays on this machine,
and shows hostile text as text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from serve_support import KEY, POLICIES, WELL, Live, running, saying

HOSTILE = (
    "<script>alert(1)</script> <img src=x onerror=alert(1)> <b>bold</b> \x1b[31mred\x1b[0m \u202egnol\u202c \u200b"
    "[a](javascript:alert(1)) " + "x" * 200
)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    long = {**POLICIES, "thinker": ("qwen2", ["grpo.max_new_tokens=1500"])}  # room for hostile text
    with running(tmp_path_factory.mktemp("served"), long) as server:
        yield server


@pytest.fixture
def page(browser: Any, live: Live) -> Iterator[Any]:
    """A page that knows the key. A script's error, a dialog or a request that leaves the server fails the test."""
    wrong: list[str] = []
    opened = browser.new_page(viewport={"width": 400, "height": 900})
    opened.set_default_timeout(30_000)
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("dialog", lambda dialog: (wrong.append("a dialog"), dialog.dismiss()))
    opened.on("request", lambda asked: None if asked.url.startswith(live.base) else wrong.append(asked.url))
    opened.goto(live.base)
    opened.fill("#key", KEY)  # the server has asked for it: until then its row is hidden
    opened.keyboard.press("Tab")
    opened.wait_for_selector("#models input[value=regular]")
    opened.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
    yield opened
    assert wrong == []
    opened.close()


def answered(page: Any) -> list[Any]:
    page.wait_for_selector("#status:text-is('Done.')")
    return list(page.query_selector_all("#answers article"))


def test_both_models_are_asked_by_keyboard_alone(page: Any) -> None:
    page.focus("#question")
    page.keyboard.type("A woman has pain and no fever.")
    for key in ("Tab", "Tab", "Tab", "Control+A", "3"):  # both models stay chosen
        page.keyboard.press(key)
    with saying(WELL):
        page.keyboard.press("Enter")
        thinker, regular = answered(page)
    assert page.evaluate("document.documentElement.scrollWidth") == 400
    assert "3 of 3" in thinker.inner_text()
    assert thinker.query_selector(".answer").inner_text() == "pericarditis"
    marks = {mark.inner_text(): mark.get_attribute("class") for mark in thinker.query_selector_all("mark")}
    assert marks == {"pain": "present", "no fever": "absent"}
    assert [mark.inner_text() for mark in page.query_selector_all("#marked mark")] == ["pain", "fever"]
    assert "regular" in regular.inner_text()
    nameless = page.evaluate(
        "[...document.querySelectorAll('button, input, textarea, meter, [tabindex=\"0\"]')].filter((one) => "
        "!(one.textContent.trim() || one.getAttribute('aria-label') || one.labels?.length)).length"
    )
    assert nameless == 0
    names = page.evaluate("[...document.querySelectorAll('summary')].map((one) => one.textContent)")
    assert len(names) == len(set(names)) == 6  # three samples of each model


def test_the_link_to_the_answers_leads_somewhere_before_there_are_any(page: Any) -> None:
    page.focus("a.skip")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "answers"


def test_hostile_text_is_shown_as_text(page: Any) -> None:
    page.fill("#question", HOSTILE)
    with saying(f"<reasoning>Findings: {HOSTILE}</reasoning><answer>{HOSTILE}</answer>"):
        page.click("#go")
        thinker = answered(page)[0]
    for place in (".text", ".answer"):
        text = thinker.query_selector(place).text_content()
        assert "<script>alert(1)</script> <img src=x onerror=alert(1)>" in text
        assert "␛[31mred␛[0m ⟨U+202E⟩gnol⟨U+202C⟩ ⟨U+200B⟩" in text
    assert page.query_selector("#answers :is(script, img, b, a), #marked :is(script, img, b, a)") is None
    assert page.evaluate("document.documentElement.scrollWidth") == 400


def test_stopping_frees_the_server_and_leaves_what_was_written(page: Any, live: Live) -> None:
    page.fill("#question", "Why?")
    page.uncheck("#models input[value=regular]")
    with saying("<reasoning>" + "pain; " * 2000, ends=False):
        page.click("#go")
        page.wait_for_selector("#answers .text:not(:empty)")
        page.focus("#stop")
        page.keyboard.press("Enter")
        page.wait_for_selector("#status:text-is('Stopped.')")
    assert page.evaluate("document.activeElement.id") == "go"
    assert "pain" in page.inner_text("#answers .text")
    assert live.settled()
