"""The page's server: what it serves, whom it answers, and that hostile text stays text."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from view_support import make_run, make_trl_run, row, write_lines, write_round

pytest.importorskip("fastapi")
pytest.importorskip("polars")

from fastapi.testclient import TestClient

from grandrounds.errors import RunError
from grandrounds.view.app import PARTS, make_app
from grandrounds.view.run import open_run
from grandrounds.web.guarding import answers, host_of, is_loopback
from grandrounds.web.parts import SHARED
from grandrounds.web.port import address_of, bound, require_packages

HOSTILE = (
    "</script><script>alert(1)</script><img src=x onerror=alert(1)> \x1b[31mred\x1b[0m \u202eevil\u202c "
    "\u2066x\u2069 <mark class='invented'> {{7*7}} ' \" & \x00\x07"
)


def client_of(*folders: Path, host: str = "127.0.0.1") -> TestClient:
    runs = {folder.name: open_run(folder) for folder in folders}
    return TestClient(make_app(runs, host), base_url="http://127.0.0.1:8000")


@pytest.fixture
def client(tmp_path: Path) -> TestClient:
    rows = [row(number, group, sample) for number in (1, 2) for group in (0, 1) for sample in (0, 1)]
    metrics = [{"round": 1, "reward": 0.5, "loss": None, "name": "ß"}, {"round": 2, "reward": 0.123456789}]
    return client_of(make_run(tmp_path / "run", rows, metrics), make_trl_run(tmp_path / "trl"))


def test_the_page_and_its_parts_are_served(client: TestClient) -> None:
    for name in (*SHARED, *PARTS):
        got = client.get(f"/{name}")
        assert got.status_code == 200
        assert "default-src 'none'" in got.headers["content-security-policy"]
        assert got.headers["x-content-type-options"] == "nosniff"
    assert client.get("/").headers["content-type"].startswith("text/html")
    assert client.get("/main.js").headers["content-type"].startswith("text/javascript")


def test_every_part_that_the_page_names_is_served_and_nothing_from_elsewhere() -> None:
    places = {**SHARED, **PARTS}
    for package in ("grandrounds.view", "grandrounds.web"):
        there = {one.name for one in files(package).joinpath("static").iterdir()}
        assert there == {place[-1] for place in places.values() if place[0] == package}
    for package, *path in places.values():
        text = files(package).joinpath(*path).read_text(encoding="utf-8")
        named = re.findall(r"""(?:src|href)="([\w.]+)"|from "\./([\w.]+)\"""", text)
        assert {name for pair in named for name in pair if name} <= places.keys()
        assert set(re.findall(r"https?://[^\s\"']+", text)) <= {"http://www.w3.org/2000/svg"}


def test_the_scripts_make_no_html_of_text() -> None:
    for name, (package, *path) in {**SHARED, **PARTS}.items():
        if name.endswith(".js"):
            text = files(package).joinpath(*path).read_text(encoding="utf-8")
            forbidden = r"(inner|outer|AdjacentHT)(HTML|ML)|document\.write|\beval\(|new Function|srcdoc"
            assert not re.search(forbidden, text), name


def test_nothing_else_has_an_address(client: TestClient) -> None:
    for path in (
        "/docs",
        "/openapi.json",
        "/redoc",
        "/recipe.yaml",
        "/../recipe.yaml",
        "/%2e%2e/recipe.yaml",
        "/..%2frecipe.yaml",
        "/static/main.js",
        "/api/runs/2/curves",
        "/api/runs/-1/curves",
        "/api/runs/0/groups/9/0",
        "/api/runs/0/groups/99999999999999999999/0",
        "/api/runs/0/text/1/0/9",
        "/api/runs/0/text/1/0/..%2f..%2frecipe.yaml",
    ):
        assert client.get(path).status_code == 404, path
    assert client.get("/api/runs/..%2f/curves").status_code in (404, 422)
    assert client.post("/api/runs").status_code == 405
    for query in ("filter=none", "order=none", "page=0", "page=99999999999999"):
        assert client.get(f"/api/runs/0/completions?{query}").status_code == 400
    assert client.get("/api/runs/0/completions?page=x").status_code == 422


@pytest.mark.parametrize(
    ("header", "bound_to", "answered"),
    [
        ("127.0.0.1:8000", "127.0.0.1", True),
        ("localhost:1", "127.0.0.1", True),
        ("LOCALHOST", "127.0.0.1", True),
        ("[::1]:8000", "::1", True),
        ("evil.example:8000", "127.0.0.1", False),
        ("localhost.evil.example", "127.0.0.1", False),
        ("127.0.0.1.evil.example:80", "127.0.0.1", False),
        ("192.168.0.7:8000", "127.0.0.1", False),
        ("", "127.0.0.1", False),
        ("192.168.0.7:8000", "0.0.0.0", True),
        ("evil.example:8000", "0.0.0.0", False),
        ("lab.example", "lab.example", True),
    ],
)
def test_only_names_of_this_machine_are_answered(header: str, bound_to: str, answered: bool) -> None:
    assert answers(header, bound_to) is answered


def test_a_rebound_name_gets_nothing(client: TestClient) -> None:
    for path in ("/", "/api/runs", "/api/runs/0/completions"):
        assert client.get(path, headers={"host": "evil.example:8000"}).status_code == 421
    assert (
        "access-control-allow-origin" not in client.get("/api/runs", headers={"origin": "http://x"}).headers
    )


def test_runs_curves_and_what_is_new_in_them(client: TestClient, tmp_path: Path) -> None:
    listed = client.get("/api/runs").json()
    assert [(one["name"], one["kind"], one["completions"]) for one in listed["runs"]] == [
        ("run", "Grand Rounds", 8),
        ("trl", "TRL", 24),
    ]
    first = client.get("/api/runs/0/curves").json()
    assert first["columns"] == {"round": [1, 2], "reward": [0.5, 0.123457]}
    write_lines(tmp_path / "run/metrics.jsonl", [{"round": 3, "reward": 1.0}])
    more = client.get(f"/api/runs/0/curves?after=2&epoch={first['epoch']}").json()
    assert (more["start"], more["total"], more["columns"]) == (2, 3, {"round": [3], "reward": [1.0]})
    again = client.get("/api/runs/0/curves?after=2&epoch=77").json()
    assert again["start"] == 0


def test_a_group_names_its_neighbours_and_the_case_s_history(client: TestClient) -> None:
    got = client.get("/api/runs/0/groups/2/0").json()
    assert (got["before"], got["after"]) == ([1, 1], [2, 1])
    assert [(one["round"], one["group"]) for one in got["history"]] == [(1, 0), (2, 0)]
    assert client.get("/api/runs/0/groups/1/0").json()["before"] is None
    assert got["question"] == [
        ["Fever", "present"],
        [", no ", None],
        ["cough", "absent"],
        [". What is it?", None],
    ]


def monitored(what: str, hint: str) -> dict[str, Any]:
    """A row of monitor.jsonl."""
    finding = {"sign": "s", "what": what, "cause": "", "hint": hint}
    return {"round": 1, "findings": [finding], "said": ["s"]}


def test_hostile_text_comes_as_json_and_plain_text_only(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    texts = {
        name: HOSTILE for name in ("case_id", "prompt", "question", "completion", "answer", "given", "gold")
    }
    hostile = row(
        1, 0, 0, **texts, facts=[HOSTILE], defects=[HOSTILE], notes=json.dumps({"accuracy": HOSTILE})
    )
    write_round(run, [{**hostile, "extras": json.dumps({HOSTILE: HOSTILE})}])
    write_lines(run / "metrics.jsonl", [{"round": 1, HOSTILE: 1.0, "x": HOSTILE, "lone": "\ud800"}])
    write_lines(run / "monitor.jsonl", [monitored(HOSTILE, "\ud800")])
    client = client_of(run)
    for path in ("runs", "runs/0/curves", "runs/0/completions", "runs/0/groups/1/0"):
        got = client.get(f"/api/{path}")
        assert got.status_code == 200
        assert got.headers["content-type"] == "application/json"
        assert got.text.isascii()
    assert client.get("/api/runs").json()["runs"][0]["warnings"][0]["what"] == HOSTILE
    group = client.get("/api/runs/0/groups/1/0").json()
    assert "".join(text for text, _ in group["samples"][0]["text"]) == HOSTILE
    assert group["samples"][0]["extras"] == [[HOSTILE, HOSTILE]]
    assert HOSTILE in client.get("/api/runs/0/curves").json()["columns"]
    whole = client.get("/api/runs/0/text/1/0/0")
    assert whole.headers["content-type"].startswith("text/plain")
    assert whole.text == HOSTILE


def test_a_line_of_a_megabyte_is_cut_and_whole_on_demand(tmp_path: Path) -> None:
    long = "<reasoning>Findings: " + "x; " * 350_000
    client = client_of(
        make_run(tmp_path / "run", [row(1, 0, 0, completion=long, answer=long, gold=long, prompt=long)])
    )
    got = client.get("/api/runs/0/groups/1/0")
    assert len(got.content) < 200_000
    assert got.json()["samples"][0]["characters"] == len(long)
    assert client.get("/api/runs/0/text/1/0/0").text == long
    assert client.get("/api/runs/0/text/1/0/prompt").text == long
    assert len(client.get("/api/runs/0/completions").content) < 5_000


@pytest.mark.parametrize(
    "recipe",
    ["!!python/object/apply:os.system ['exit 1']", "[", "- 1", "rewards: 3\nprompt: {answer_tag: 5}", "\x00"],
)
def test_a_hostile_recipe_runs_nothing_and_hides_nothing(recipe: str, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [row(1, 0, 0)])
    (run / "recipe.yaml").write_text(recipe)
    client = client_of(run)
    assert client.get("/api/runs").json()["runs"][0]["completions"] == 1
    assert client.get("/api/runs/0/groups/1/0").status_code == 200


def test_numbers_that_are_not_finite_are_null(tmp_path: Path) -> None:
    nan: Any = float("nan")
    client = client_of(make_run(tmp_path / "run", [row(1, 0, 0, reward=nan, advantage=nan, length=None)]))
    (tmp_path / "run/metrics.jsonl").write_text(
        '{"round": 1, "loss": NaN, "kl": 1e999, "big": 1' + "0" * 400 + "}\n"
    )
    assert client.get("/api/runs/0/groups/1/0").json()["samples"][0]["advantage"] is None
    assert client.get("/api/runs/0/curves").json()["columns"] == {
        "round": [1],
        "loss": [None],
        "kl": [None],
        "big": [None],
    }


def test_hosts_ports_and_addresses() -> None:
    assert (host_of("[::1]:80"), host_of("a:1"), host_of("A")) == ("::1", "a", "a")
    assert is_loopback("127.9.9.9")
    assert not is_loopback("0.0.0.0")
    assert address_of("::1", 5) == "http://[::1]:5/"
    with (
        bound("127.0.0.1", 0) as listening,
        pytest.raises(RunError, match="nothing can be served") as refused,
    ):
        bound("127.0.0.1", listening.getsockname()[1])
    assert "--port" in refused.value.hint


def test_the_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "polars" else object())
    with pytest.raises(RunError, match="polars, which is not installed") as refused:
        require_packages(("fastapi", "polars"), "view")
    assert refused.value.hint == "pip install 'grandrounds[view]'"
