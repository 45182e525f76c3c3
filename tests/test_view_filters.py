"""The list's filters, search, orders and pages find what a plain loop over the rows finds."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from view_support import make_run, make_trl_run, random_rows

pytest.importorskip("polars")

from grandrounds.view.filters import FILTERS
from grandrounds.view.rollouts import PAGE, Query, Rollouts
from grandrounds.view.run import open_run

Row = dict[str, Any]
Key = tuple[int, int, int]


def key(one: Row) -> Key:
    return one["round"], one["group"], one["sample"]


def grouped(rows: list[Row], *names: str) -> list[list[Row]]:
    found: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for one in rows:
        found[tuple(one[name] for name in names)].append(one)
    return list(found.values())


def lower_quantile(values: list[float], share: float) -> float:
    return sorted(values)[math.floor(share * (len(values) - 1))]


def wrong_unanimous(rows: list[Row]) -> list[Row]:
    return [
        one
        for group in grouped(rows, "round", "group")
        if all(member["correct"] is False for member in group)
        and None not in (answers := {member["given"] for member in group})
        and len(answers) == 1
        for one in group
    ]


def high_invalid(rows: list[Row]) -> list[Row]:
    found = []
    for members in grouped(rows, "round"):
        rewards = [one["reward"] for one in members]
        bound, mean = lower_quantile(rewards, 0.75), sum(rewards) / len(rewards)
        for one in members:
            sound = one["rewards/sound"]
            invalid = one["correct"] is False or one["defects"] or (sound is not None and sound < 1)
            if one["reward"] >= bound and one["reward"] > mean and invalid:
                found.append(one)
    return found


def no_variance(rows: list[Row]) -> list[Row]:
    return [
        one
        for group in grouped(rows, "round", "group")
        if len({member["reward"] for member in group}) == 1
        for one in group
    ]


def longest(rows: list[Row]) -> list[Row]:
    bound = lower_quantile([one["length"] for one in rows], 0.99)
    return [one for one in rows if one["length"] >= bound]


REFERENCE: dict[str, Callable[[list[Row]], list[Row]]] = {
    "all": list,
    "wrong_unanimous": wrong_unanimous,
    "high_invalid": high_invalid,
    "no_variance": no_variance,
    "longest": longest,
    "cut_off": lambda rows: [one for one in rows if one["finish"] == "length"],
}


def every_page(rollouts: Rollouts, **query: Any) -> list[Row]:
    """The rows of all pages in order."""
    first = rollouts.page(Query(**query))
    rows = list(first["rows"])
    for page in range(2, first["pages"] + 1):
        rows += rollouts.page(Query(page=page, **query))["rows"]
    assert len(rows) == first["total"]
    return rows


@pytest.fixture(scope="module", params=[0, 1, 2])
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Rollouts, list[Row]]:
    rows = random_rows(request.param)
    return Rollouts(open_run(make_run(tmp_path_factory.mktemp("run"), rows))), rows


@pytest.mark.parametrize("name", REFERENCE)
def test_a_filter_finds_what_a_loop_finds(name: str, made: tuple[Rollouts, list[Row]]) -> None:
    rollouts, rows = made
    wanted = [key(one) for one in REFERENCE[name](rows)]
    found = [key(one) for one in every_page(rollouts, filter=name, groups=False)]
    assert wanted
    assert sorted(found) == sorted(wanted)
    groups = [(one["round"], one["group"]) for one in every_page(rollouts, filter=name)]
    assert sorted(groups) == sorted({one[:2] for one in wanted})


def test_every_filter_has_a_reference() -> None:
    assert REFERENCE.keys() == FILTERS.keys()


@pytest.mark.parametrize("text", ["fever", "FEVER", "fev.er", "100% [", "case-1", "nowhere", "(?i)", "\\"])
def test_search_finds_the_text_as_it_is_in_any_case(text: str, made: tuple[Rollouts, list[Row]]) -> None:
    rollouts, rows = made
    wanted = [
        key(one)
        for one in rows
        if any(text.lower() in one[name].lower() for name in ("case_id", "prompt", "completion"))
    ]
    assert sorted(key(one) for one in every_page(rollouts, search=text, groups=False)) == sorted(wanted)


def test_filter_search_and_case_together_narrow(made: tuple[Rollouts, list[Row]]) -> None:
    rollouts, rows = made
    wanted = [key(one) for one in no_variance(rows) if "fever" in (one["completion"] + one["prompt"]).lower()]
    case = next(one for one in rows if key(one) == wanted[0])["case_id"]
    found = every_page(rollouts, filter="no_variance", search="Fever", case=case, groups=False)
    kept = {key(one) for one in rows if one["case_id"] == case} & set(wanted)
    assert {key(one) for one in found} == kept != set()


def test_pages_are_cut_and_in_order(made: tuple[Rollouts, list[Row]]) -> None:
    rollouts, rows = made
    assert len(rollouts.page(Query(groups=False))["rows"]) == PAGE
    assert rollouts.page(Query(page=10_000))["rows"] == []
    lengths = [one["length"] for one in every_page(rollouts, order="longest", groups=False)]
    assert lengths == sorted((one["length"] for one in rows), reverse=True)
    oldest = [key(one) for one in every_page(rollouts, order="oldest", groups=False)]
    assert oldest == sorted(key(one) for one in rows)
    newest = [one["round"] for one in every_page(rollouts)]
    assert newest == sorted(newest, reverse=True)
    spread = [one["spread"] for one in every_page(rollouts, order="spread")]
    assert spread == sorted(spread, reverse=True)


def test_a_group_s_row_sums_it_up(made: tuple[Rollouts, list[Row]]) -> None:
    rollouts, rows = made
    for one in every_page(rollouts):
        members = [other for other in rows if key(other)[:2] == (one["round"], one["group"])]
        rewards = [other["reward"] for other in members]
        assert one["size"] == len(members)
        assert one["reward"] == pytest.approx(sum(rewards) / len(rewards))
        assert one["spread"] == max(rewards) - min(rewards)
        assert one["right"] == sum(other["correct"] is True for other in members)
        assert one["judged"] == sum(other["correct"] is not None for other in members)


def test_filters_say_what_a_run_does_not_keep(tmp_path: Path) -> None:
    available = {
        one["name"]: one["available"] for one in Rollouts(open_run(make_trl_run(tmp_path / "trl"))).filters()
    }
    assert available == {
        "all": True,
        "wrong_unanimous": False,
        "high_invalid": True,
        "no_variance": True,
        "longest": True,
        "cut_off": False,
    }
