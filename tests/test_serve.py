"""A live server does what OpenAI's client expects, holds the form, and keeps requests apart."""

from __future__ import annotations

import gc
import json
import re
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from serve_support import KEY, WELL, Live, running, saying, target

from grandrounds.cli.serve import serve_policies
from grandrounds.errors import GrandRoundsError, RunError
from grandrounds.response.grammar import Grammar
from grandrounds.rewards import evidence
from grandrounds.sampling.engine import RowBatch
from grandrounds.sampling.live import LiveBatch
from grandrounds.sampling.live_row import LiveRow
from grandrounds.serve.chat_request import parse_request
from grandrounds.serve.chat_response import ChatResponse
from grandrounds.serve.errors import ApiError
from grandrounds.serve.metrics import Metrics
from grandrounds.serve.options import ServeOptions
from grandrounds.serve.playground import GivenResponse, ReadRequest, read_responses
from grandrounds.serve.run import read_key
from grandrounds.serve.scheduler import Job, Scheduler
from grandrounds.serve.served import load_served

USER = [{"role": "user", "content": "A woman of 40 has chest pain and no fever."}]
HOSTILE = "<script>alert(1)</script> \x1b[31mred\x1b[0m \u202egnol\u202c <img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def live(folder: Path) -> Iterator[Live]:
    with running(folder, max_body=20_000) as server:
        yield server


@pytest.fixture(scope="module")
def by_vllm(folder: Path) -> Iterator[Live]:
    """A server that decodes by vLLM's interface. Where `either` is asked for, both engines must do the same."""
    with running(folder, engine="vllm") as server:
        yield server


@pytest.fixture(scope="module", params=["live", "by_vllm"])
def either(request: pytest.FixtureRequest) -> Live:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module", params=["native", "vllm"])
def refusing(folder: Path, request: pytest.FixtureRequest) -> Iterator[Live]:
    with running(folder, on_leaving="refuse", max_rows=2, max_queue=1, engine=request.param) as server:
        yield server


def ask(live: Live, **more: Any) -> Any:
    return live.openai.chat.completions.create(**{"model": "thinker", "messages": USER, "seed": 1, **more})


def streamed(chunks: Any) -> dict[int, dict[str, str]]:
    """What a stream says in all: text by field, for each choice."""
    said: dict[int, dict[str, str]] = {}
    for chunk in chunks:
        for choice in chunk.choices:
            one = said.setdefault(choice.index, {"content": "", "reasoning": "", "reasoning_content": ""})
            for field in one:
                one[field] += getattr(choice.delta, field, None) or ""
            one["finish"] = choice.finish_reason or ""
    return said


def test_models_are_listed(live: Live) -> None:
    assert [model.id for model in live.openai.models.list()] == ["thinker", "regular"]
    assert live.openai.models.retrieve("regular").owned_by == "grandrounds"
    with pytest.raises(openai.NotFoundError, match="thinker, regular"):
        ask(live, model="other")


def test_every_response_of_a_random_model_holds_the_form(either: Live) -> None:
    answer = ask(either, n=4)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    for choice in answer.choices:
        message = choice.message
        whole = Grammar().render(message.reasoning, message.content)
        assert Grammar().parse(whole).defects == ()
        assert message.reasoning == message.reasoning_content
        assert choice.repaired
    assert answer.usage.completion_tokens <= 4 * 64
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    regular = ask(either, model="regular").choices[0].message
    assert regular.content
    assert regular.reasoning == ""


def test_a_seed_gives_the_same_answer_streamed_or_whole_alone_or_beside_31_others(either: Live) -> None:
    alone = [ask(either, seed=seed, max_tokens=36).choices[0].message for seed in range(2)]
    with ThreadPoolExecutor(32) as pool:
        many = [
            pool.submit(ask, either, seed=seed, max_tokens=36, stream=seed % 2 == 0) for seed in range(32)
        ]
        together = [one.result() for one in many]
        said = [streamed(one)[0] for one in together[::2]]
    assert (said[0]["reasoning"], said[0]["content"]) == (alone[0].reasoning, alone[0].content)
    assert said[0]["reasoning"] == said[0]["reasoning_content"]
    assert together[1].choices[0].message == alone[1]
    assert all(one["finish"] in ("stop", "length") for one in said)
    assert len({one["reasoning"] for one in said}) > 1
    assert either.settled()


def test_a_stream_ends_with_its_usage(either: Live) -> None:
    chunks = list(ask(either, stream=True, n=2, stream_options={"include_usage": True}))
    assert chunks[-1].choices == []
    assert chunks[-1].usage == ask(either, n=2).usage
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    assert all("usage" in chunk.model_fields_set for chunk in chunks)  # null until the last one


def test_logprobs_are_those_of_the_answers_tokens(either: Live) -> None:
    with saying(WELL):
        choice = ask(either, logprobs=True, top_logprobs=3).choices[0]
        chunks = list(ask(either, logprobs=True, top_logprobs=3, stream=True))
    entries = choice.logprobs.content
    assert "".join(entry.token for entry in entries).startswith("pericarditis")
    assert all(len(entry.top_logprobs) == 3 and entry.logprob <= 0 for entry in entries)
    parts = [part.logprobs.content for chunk in chunks for part in chunk.choices if part.logprobs]
    assert [entry for part in parts for entry in part] == entries


def test_a_stop_string_ends_the_answer_and_is_not_part_of_it(either: Live) -> None:
    with saying(WELL, ends=False):
        answer = ask(either, stop=["cardi"]).choices[0]
        said = streamed(ask(either, stop=["cardi", "x"], stream=True))[0]
    assert (answer.message.content, answer.finish_reason) == ("peri", "stop")
    assert (said["content"], said["reasoning"]) == ("peri", "Findings: pain; no fever.")
    assert either.settled()


def test_the_recipes_system_message_is_sent_unless_the_request_has_its_own(live: Live) -> None:
    def tokens(model: str, *system: str) -> int:
        messages = [*({"role": "system", "content": text} for text in system), *USER]
        return ask(live, model=model, messages=messages).usage.prompt_tokens

    own = tokens("regular")
    assert own == tokens("regular", "Answer.")
    assert tokens("regular", "") < own < tokens("regular", "Answer at great length, please.")


@pytest.mark.parametrize(
    ("said", "reasoning", "content"),
    [
        ("The pain is", None, None),
        ("<reasoning>pain <answer>B</answer>", "pain", None),
        ("<reasoning>pain</reasoning> so <answer>", "pain", None),
        (WELL, "Findings: pain; no fever.", "pericarditis"),
    ],
)
def test_a_repair_keeps_what_was_right(
    either: Live, said: str, reasoning: str | None, content: str | None
) -> None:
    with saying(said):
        choice = ask(either).choices[0]
    assert choice.message.refusal is None
    assert choice.message.reasoning
    assert choice.message.content
    assert choice.repaired == (said != WELL)
    assert reasoning is None or choice.message.reasoning == reasoning
    assert content is None or choice.message.content == content


def test_a_reasoning_without_end_is_closed_within_the_limit(either: Live) -> None:
    with saying("<reasoning>" + "pain; " * 200, ends=False):
        answer = ask(either, max_tokens=50)
    choice = answer.choices[0]
    assert choice.finish_reason == "length"
    assert choice.message.content
    assert answer.usage.completion_tokens <= 50


@pytest.mark.parametrize(
    ("said", "defect"),
    [("The pain is", "text_outside_tags"), ("<reasoning>pain</reasoning>", "answer_missing")],
)
def test_a_malformed_response_is_refused_where_the_operator_says_so(
    refusing: Live, said: str, defect: str
) -> None:
    with saying(said):
        choice = ask(refusing).choices[0]
        chunks = list(ask(refusing, stream=True))
    assert choice.message.content is None
    assert defect in choice.message.refusal
    assert streamed(chunks)[0]["content"] == ""
    assert any(part.delta.refusal for chunk in chunks for part in chunk.choices)
    with saying(WELL):
        assert ask(refusing).choices[0].message.content == "pericarditis"


def test_hostile_text_stays_text(live: Live) -> None:
    with saying(f"<reasoning>{HOSTILE}</reasoning><answer>{HOSTILE}</answer>"):
        with live.http.stream(
            "POST",
            "/v1/chat/completions",
            json={"model": "thinker", "messages": USER, "stream": True, "max_tokens": 400},
        ) as answer:
            raw = answer.read()
        message = ask(live, max_tokens=400).choices[0].message
    assert raw.isascii()
    assert b"\x1b" not in raw
    assert all(line.startswith(b"data: ") for line in raw.split(b"\n") if line)
    assert message.content == message.reasoning == HOSTILE
    page = live.http.get("/")
    assert "unsafe" not in page.headers["content-security-policy"]
    script = live.http.get("/playground.js").text
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", script)
    assert not re.search(r"https?://", page.text + script)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_frees_its_rows(either: Live, stream: bool) -> None:
    before = either.server.metrics.cancelled
    body = {"model": "thinker", "messages": USER, "n": 8, "max_tokens": 1500, "stream": stream}
    post = {"method": "POST", "url": "/v1/chat/completions", "json": body, "timeout": 60 if stream else 0.3}
    with saying("<reasoning>" + "pain; " * 1000, ends=False):
        if stream:
            with either.http.stream(**post) as answer:
                assert next(answer.iter_lines())
        else:
            with pytest.raises(httpx2.TimeoutException):
                either.http.request(**post)
        assert either.settled()
    assert either.server.metrics.cancelled == before + 1
    assert kept(either) == []


def kept(live: Live) -> list[Any]:
    """What is left of requests in memory; waits until the event loop has let go of them."""
    found: list[Any] = []
    for _ in range(200):
        gc.collect()
        found = [one for one in gc.get_objects() if type(one) in (Job, LiveRow, ChatResponse)]
        batches = [queue.batch for queue in live.server.scheduler._queues.values()]
        found += [
            one for one in batches if (one._cache._layers if isinstance(one, LiveBatch) else one._requests)
        ]
        if not found:
            break
        time.sleep(0.05)
    return found


def test_each_of_many_requests_gets_its_own_words_and_no_others(either: Live) -> None:
    """32 clients at once, each with a word of its own that its response repeats. They join and leave at all times."""
    words = [f"w{number:02d}x" for number in range(32)]

    def repeats(row: LiveRow) -> str:
        (word,) = re.findall(r"w\d\dx", row.request.prompt.text)
        return f"<reasoning>{word}</reasoning><answer>{' '.join([word] * (1 + int(word[1:3]) % 5))}</answer>"

    def one(word: str) -> tuple[str, set[str]]:
        message = ask(either, messages=[{"role": "user", "content": word}]).choices[0].message
        return message.reasoning, set(message.content.split())

    with saying(repeats), ThreadPoolExecutor(32) as pool:
        assert list(pool.map(one, words)) == [(word, {word}) for word in words]
    assert either.settled()
    assert kept(either) == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_requests_are_refused_once_nothing_is_decoded_any_more(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = load_served([target(folder, "thinker")], ServeOptions())
    scheduler = Scheduler(served, ServeOptions(), Metrics())
    rows = served["thinker"].rows(parse_request(json.dumps({"model": "thinker", "messages": USER}).encode()))
    told: list[Any] = []
    monkeypatch.setattr(
        LiveBatch, "step", lambda self: sys.exit()
    )  # ends the thread, as no error of a model's can
    scheduler.submit(Job("thinker", rows, (), told.append))
    scheduler._thread.join()
    assert scheduler.failed == ["thinker"]
    assert [one.status for one in told] == [503]
    with pytest.raises(ApiError, match="does not decode any more"):
        scheduler.submit(Job("thinker", rows, (), told.append))


def test_wrong_requests_get_openais_errors(live: Live) -> None:
    chat = "/v1/chat/completions"
    good = {"model": "thinker", "messages": USER}

    def status(**more: Any) -> tuple[int, dict[str, Any]]:
        answer = live.http.request("POST", chat, **more)
        return answer.status_code, answer.json()["error"]

    plain = httpx2.Client(base_url=live.base)
    assert plain.post(chat, json=good).json()["error"]["code"] == "invalid_api_key"
    for key in ("wrong", KEY + "x", KEY[:-1], "é"):
        wrong = plain.post(chat, json=good, headers={"Authorization": f"Bearer {key}".encode()})
        assert wrong.status_code == 401
    assert plain.get("/metrics").status_code == 401
    assert plain.get("/health").json() == {"status": "ok"}
    assert live.http.get("/health", headers={"Host": "evil.example"}).status_code == 421
    assert status(content=b"{", headers={"Content-Type": "application/json"})[1]["code"] == "invalid_json"
    assert status(content=json.dumps(good), headers={"Content-Type": "text/plain"})[0] == 415
    assert status(json={**good, "user": "x" * 30_000})[0] == 413
    chunks = (b" " * 1000 for _ in range(30))  # no length is announced
    assert status(content=chunks, headers={"Content-Type": "application/json"})[0] == 413
    assert status(json={**good, "max_tokens": 5000})[1]["param"] == "max_tokens"
    assert status(json={**good, "max_tokens": 3})[0] == 400
    assert status(json={**good, "n": 65})[1]["param"] == "n"
    long = [{"role": "user", "content": "pain " * 3000}]
    assert status(json={**good, "messages": long})[1]["code"] == "context_length_exceeded"
    assert live.http.get("/nowhere").json()["error"]["type"] == "invalid_request_error"
    assert live.http.get("/docs").status_code == 404
    assert live.settled()


def test_more_than_the_queue_holds_is_refused(refusing: Live) -> None:
    with saying("<reasoning>" + "pain; " * 300, ends=False), ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(ask, refusing, max_tokens=150) for _ in range(8)]
        kinds = [type(one.exception()) for one in asked]
    assert kinds.count(openai.RateLimitError) >= 1
    assert kinds.count(type(None)) >= 2
    assert refusing.settled()


def test_a_model_that_fails_ends_its_requests_alone(
    either: Live, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(self: RowBatch) -> None:
        raise RuntimeError("out of memory beside the secret question")

    with monkeypatch.context() as patch:
        patch.setattr(type(either.server.scheduler._queues["thinker"].batch), "step", broken)
        with pytest.raises(openai.InternalServerError) as failed:
            ask(either)
    assert "secret" not in f"{failed.value}{caplog.text}"
    assert "RuntimeError at test_serve.py:" in caplog.text
    assert ask(either).choices[0].message.content


def test_an_engine_that_is_dead_is_known_to_be(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever is answered and whoever waits gets an error, and so does everybody later; other policies go on."""
    with running(folder, engine="vllm", max_rows=1) as server:
        scheduler = server.server.scheduler
        engine = scheduler._queues["thinker"].batch._engine  # type: ignore[attr-defined]
        step = type(engine).step

        def breaks(self: Any) -> Any:
            if self is engine and scheduler.counts()[1] == 2:
                self.broken = RuntimeError("the secret question")
            return step(self)

        monkeypatch.setattr(type(engine), "step", breaks)
        with saying("<reasoning>" + "pain; " * 1000, ends=False), ThreadPoolExecutor(3) as pool:
            asked = [pool.submit(ask, server, max_tokens=1500) for _ in range(3)]
            said = sorted(str(one.exception()) for one in asked)
        assert [text[:15] for text in said] == ["Error code: 500", "Error code: 503", "Error code: 503"]
        assert "secret" not in f"{said}{caplog.text}"
        with pytest.raises(openai.InternalServerError, match="does not decode any more"):
            ask(server)
        assert ask(server, model="regular").choices[0].message.content
        health = server.http.get("/health")
        assert (health.status_code, health.json()) == (503, {"status": "failed", "models": ["thinker"]})


def test_metrics_count_and_hold_no_text(live: Live) -> None:
    ask(live)
    text = live.http.get("/metrics").text
    assert re.search(r'^grandrounds_completions_total{model="thinker"} [1-9]', text, re.MULTILINE)
    assert "grandrounds_rows 0" in text
    assert "chest" not in text


def test_findings_are_looked_up_in_the_question_and_answers_that_read_the_same_vote_together() -> None:
    question = "A man has chest pain and no fever."
    reasoning = "Findings: chest pain; no fever; rash.\nPericarditis: for chest pain; against no fever."
    given = [("", "Flu"), (reasoning, "Pericarditis"), ("", "pericarditis."), ("", "")]
    responses = [GivenResponse(reasoning=reasoning, answer=answer) for reasoning, answer in given]
    read = read_responses(ReadRequest(question=question, models=[responses, []]))
    assert read["models"][0]["votes"] == [
        {"answer": "Pericarditis", "count": 2},
        {"answer": "Flu", "count": 1},
    ]
    none, marked = read["models"][0]["reasonings"][:2]
    assert none == []
    assert "".join(piece for piece, _ in marked) == reasoning
    assert {(piece, mark) for piece, mark in marked if mark} == {
        ("chest pain", "present"),
        ("no fever", "absent"),
        ("rash", "invented"),
    }
    assert ("chest pain", "present") in read["question"]
    assert read["models"][1] == {"reasonings": [], "votes": []}
    assert evidence._in_case.cache_info().currsize == 0  # the question is not kept


def test_what_is_not_there_is_said_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RunError, match=re.escape("pip install 'grandrounds[serve]'")):
        serve_policies([], ServeOptions(), None, [])


def test_a_server_that_others_reach_needs_a_key(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="--api-key-file"):
        ServeOptions(host="0.0.0.0").check()
    ServeOptions(host="0.0.0.0", api_key="x").check()
    ServeOptions(host="::1").check()
    for text in ("", "two words", "é"):
        (tmp_path / "key").write_text(text, encoding="utf-8")
        with pytest.raises(GrandRoundsError):
            read_key(tmp_path / "key")
