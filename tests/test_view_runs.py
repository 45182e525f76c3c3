"""Folders open as they are: growing, resumed, damaged, older, and TRL's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from view_support import SCHEMA, make_run, make_trl_run, row, write_lines, write_round

pytest.importorskip("polars")

from grandrounds.errors import RunError
from grandrounds.report.findings import asked, cited, pieces, stated
from grandrounds.view.group import group_page
from grandrounds.view.jsonl import JsonLines
from grandrounds.view.rollouts import Query, Rollouts
from grandrounds.view.run import names_of, open_run
from grandrounds.view.tokens import token_texts
from grandrounds.view.trl_run import groups_of
from grandrounds.view.warnings import guard_warnings


def test_lines_are_read_once_and_again_where_the_file_was_replaced(tmp_path: Path) -> None:
    lines = JsonLines(tmp_path / "metrics.jsonl")
    assert lines.rows() == []
    write_lines(lines.path, [{"round": 1}])
    with lines.path.open("a") as file:
        file.write('no json\n[1]\n{"round": 2')
    assert lines.rows() == [{"round": 1}]
    with lines.path.open("a") as file:
        file.write("}\n")
    assert [one["round"] for one in lines.rows()] == [1, 2]
    assert lines.epoch == 0
    lines.path.with_name("new").write_text('{"round": 1}\n')
    lines.path.with_name("new").rename(lines.path)
    assert lines.rows() == [{"round": 1}]
    assert lines.epoch == 1


def test_new_rounds_are_added_and_a_resumed_run_is_read_again(tmp_path: Path) -> None:
    rollouts = Rollouts(open_run(make_run(tmp_path / "run", [row(1, 0, 0), row(2, 0, 0)])))
    assert rollouts.page(Query())["completions"] == 2
    last = write_round(rollouts.run.path, [row(3, 0, 0), row(3, 1, 0)])
    assert rollouts.page(Query())["completions"] == 4
    last.unlink()
    write_round(rollouts.run.path, [row(2, 0, 0, gold="other"), row(2, 1, 0)])
    found = rollouts.page(Query(groups=False))
    assert [(one["round"], one["group"], one["gold"]) for one in found["rows"]] == [
        (2, 0, "other"),
        (2, 1, "Flu"),
        (1, 0, "Flu"),
    ]


def test_a_damaged_round_is_named_and_the_others_are_shown(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [row(1, 0, 0), row(3, 0, 0)])
    (run / "rollouts/000002.parquet").write_bytes(b"PAR1 not really")
    rollouts = Rollouts(open_run(run))
    found = rollouts.page(Query(groups=False, search="fever"))
    assert [one["round"] for one in found["rows"]] == [3, 1]
    assert rollouts.state().unreadable[0].startswith("000002.parquet cannot be read")
    assert rollouts.group(3, 0)[0].case_id == "case-0"


def test_a_run_of_an_older_version_opens_without_what_it_lacks(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    old = pa.schema([field for field in SCHEMA if field.name not in ("question", "facts", "given")])
    write_round(run, [{name: row(1, 0, 0)[name] for name in old.names}], old)
    rollouts = Rollouts(open_run(run))
    page = group_page(rollouts.group(1, 0), rollouts.run.grammar())
    assert page["question_is_prompt"]
    assert not page["facts_known"]
    assert dict(page["samples"][0]["findings"]) == {
        "fever": "present",
        "no cough": "absent",
        "rash": "invented",
    }
    assert not next(one["available"] for one in rollouts.filters() if one["name"] == "wrong_unanimous")


def test_a_folder_without_a_run_is_refused_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run here") as refused:
        open_run(tmp_path)
    assert "log_completions" in refused.value.hint
    with pytest.raises(RunError, match="no such folder"):
        open_run(tmp_path / "gone")
    assert Rollouts(open_run(tmp_path / "gone", waiting=True)).page(Query())["total"] == 0


def test_runs_of_one_name_are_told_apart(tmp_path: Path) -> None:
    assert names_of([tmp_path / "a/run", tmp_path / "b/run", tmp_path / "c"]) == ["a/run", "b/run", "c"]


def test_a_group_shows_the_rewards_parts_with_weights_gates_and_notes(tmp_path: Path) -> None:
    rollouts = Rollouts(
        open_run(make_run(tmp_path / "run", [row(1, 0, 1), row(1, 0, 0, defects=["cut_off"])]))
    )
    page = group_page(rollouts.group(1, 0), rollouts.run.grammar())
    assert [one["sample"] for one in page["samples"]] == [0, 1]
    assert page["samples"][0]["defects"] == ["cut off at the longest allowed length"]
    assert page["samples"][0]["components"] == [
        {"name": "accuracy", "score": 1.0, "weight": 1.0, "gate": False, "note": "exact"},
        {"name": "sound", "score": 1.0, "weight": 0.5, "gate": False, "note": None},
    ]
    assert "".join(text for text, _ in page["samples"][0]["text"]) == row(1, 0, 0)["completion"]


def test_findings_are_present_absent_or_invented(tmp_path: Path) -> None:
    from grandrounds.response.grammar import Grammar

    case = asked("A man with heavy sweats. There is no cough.", ["man", "sweating", "no cough", "chills"])
    text = (
        "<reasoning>Findings: man; sweating; no cough; rash; cough.\n"
        "Flu: for chills +2; against no fever -1; total 1.\nConclusion: Flu.</reasoning><answer>Flu</answer>"
    )
    found = cited(Grammar().parse(text), case)
    assert found == {
        "man": "present",
        "sweating": "present",
        "no cough": "absent",
        "rash": "invented",
        "cough": "invented",  # the case denies it
        "chills": "present",
        "no fever": "invented",
    }
    question, elsewhere = stated(case, case.question, [found])  # type: ignore[arg-type]
    assert [piece for piece in question if piece[1]] == [("man", "present"), ("cough", "absent")]
    assert elsewhere == [("sweating", "present"), ("chills", "present")]


def test_prose_is_searched_for_the_case_s_facts() -> None:
    from grandrounds.response.grammar import Grammar

    case = asked("…", ["fever", "no cough", "rash"])
    prose = Grammar().parse(
        "<reasoning>The Fever fits, and a cough is missing.</reasoning><answer>Flu</answer>"
    )
    assert cited(prose, case) == {"fever": "present", "no cough": "absent"}


@pytest.mark.parametrize("marks", [{}, {"": "present"}, {"a": "x", "aa b": "y", "(": "z"}, {"B": "x"}])
def test_pieces_put_together_are_the_text(marks: dict[str, str]) -> None:
    text = "a aa b ( ab B\n(a)"
    found = pieces(text, marks)
    assert "".join(piece for piece, _ in found) == text
    assert {piece.lower() for piece, mark in found if mark} <= {mark.lower() for mark in marks}


def test_tokens_are_read_back_exactly(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        ["fever fever"], trainers.BpeTrainer(vocab_size=270, initial_alphabet=alphabet)
    )
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    text = "fever – 熱\n"
    ids = tokenizer.encode(text).ids
    logprobs = [-float(place) for place in range(len(ids))]
    found = token_texts(tmp_path / "tokenizer.json", ids, logprobs)
    assert found is not None
    assert "".join(piece for piece, _ in found) == text
    assert sum(logprob for _, logprob in found) == sum(logprobs)
    assert len(found) < len(ids)  # the bytes of one character are one piece
    assert token_texts(None, ids, logprobs) is None
    assert token_texts(tmp_path / "tokenizer.json", None, None) is None


def test_the_trace_keeps_tokens_only_when_asked(tmp_path: Path) -> None:
    from test_training_trace import samples_of

    from grandrounds.training.trace import write_trace
    from grandrounds.types import ScoredGroup

    group = ScoredGroup(samples_of("a"), {"accuracy": (1.0, 0.0)}, np.array([1.0, 0.0]), ({}, {}))
    group = group.with_advantages(np.array([0.5, -0.5]))
    rows = []
    for tokens in (False, True):
        write_trace(tmp_path / "rollouts/000001.parquet", 1, [group], tokens=tokens)
        rows.append(pa.parquet.read_table(tmp_path / "rollouts/000001.parquet").to_pylist())
    assert "token_ids" not in rows[0][0]
    assert [one.pop("token_ids") for one in rows[1]] == [[0, 1, 2, 3], [0, 1, 2, 3, 4]]
    assert [one.pop("token_logprobs") for one in rows[1]] == [[0.0] * 4, [0.0] * 5]
    assert rows[0] == rows[1]
    assert rows[0][0]["question"] == "What is it?"
    assert rows[0][0]["facts"] == []


def test_our_own_trace_has_the_columns_that_these_tests_write(tmp_path: Path) -> None:
    from test_training_trace import samples_of

    from grandrounds.training.trace import write_trace
    from grandrounds.types import ScoredGroup

    group = ScoredGroup(samples_of("a"), {"accuracy": (1.0, 0.0)}, np.array([1.0, 0.0]), ({}, {}))
    write_trace(tmp_path / "rollouts/000001.parquet", 1, [group])
    schema = pa.parquet.read_schema(tmp_path / "rollouts/000001.parquet")
    ours = [field for field in SCHEMA if field.name != "rewards/sound"]
    assert [(field.name, field.type) for field in schema] == [(field.name, field.type) for field in ours]


@pytest.mark.parametrize("chat", [True, False])
def test_a_folder_of_trl_opens(chat: bool, tmp_path: Path) -> None:
    run = open_run(make_trl_run(tmp_path / "out", chat=chat))
    rollouts = Rollouts(run)
    assert run.kind == "TRL"
    assert run.about() == {"rounds": 10}
    epoch, metrics = run.metrics()
    assert [(one["round"], one["loss"]) for one in metrics] == [(1, 0.1), (2, 0.2), (3, pytest.approx(0.3))]
    assert run.metrics()[0] == epoch
    assert rollouts.page(Query())["groups"] == 12
    stored = rollouts.group(2, 1)
    assert [one.sample for one in stored] == [0, 1]
    first = stored[1]
    assert first.text == "3 because <answer>4</answer>"
    assert [(one.name, one.score, one.weight) for one in first.components] == [
        ("accuracy_reward", 1.0, None),
        ("brevity", 0.25, None),
    ]
    assert (first.reward, first.advantage, first.correct, first.answer, first.gold) == (
        1.25,
        1.0,
        True,
        "4",
        "4",
    )
    assert dict(first.extras) == {"solution": "4", "confidence": 0.5}
    assert [one["round"] for one in rollouts.case(first.case_id)] == [1, 1, 2, 2, 3, 3]
    assert rollouts.page(Query(search="5 - 1"))["groups"] == 3


@pytest.mark.parametrize("chat", [True, False])
def test_what_the_list_says_of_trl_s_completions_is_what_their_group_says(chat: bool, tmp_path: Path) -> None:
    rollouts = Rollouts(open_run(make_trl_run(tmp_path / "out", chat=chat)))
    rows = rollouts.page(Query(groups=False, order="oldest"))["rows"]
    assert len(rows) == 24
    for one in rows:
        stored = rollouts.group(one["round"], one["group"])[one["sample"]]
        for name in ("case_id", "reward", "advantage", "length", "correct", "answer", "gold", "sample"):
            assert one[name] == getattr(stored, name), name


def test_trl_s_messages_may_have_parts_turns_and_gaps(tmp_path: Path) -> None:
    run = make_trl_run(tmp_path / "out", steps=1)
    (path,) = (run / "completions").iterdir()
    prompt = [
        {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
        {
            "role": "user",
            "content": [{"type": "image", "text": None}, {"type": "text", "text": "What is it?"}],
        },
    ]
    turns = [{"role": "assistant", "content": "Let me look."}, {"role": "tool", "content": None}]
    nan = float("nan")
    table = {"step": [1, 1], "prompt": [prompt] * 2, "completion": [turns, turns[:1]]}
    pa.parquet.write_table(pa.table({**table, "score": [nan, 1.0], "advantage": [nan, 1.0]}), path)
    rollouts = Rollouts(open_run(run))
    first, second = rollouts.group(1, 0)
    assert first.prompt == "system: Be brief.\n\nuser: \nWhat is it?"
    assert first.question == "\nWhat is it?"
    assert (first.text, second.text) == ("assistant: Let me look.\n\ntool: ", "Let me look.")
    assert (first.reward, second.reward) == (None, 1.0)
    rows = rollouts.page(Query(groups=False, search="be brief"))["rows"]
    assert [(one["reward"], one["advantage"]) for one in rows] == [(None, None), (1.0, 1.0)]


def test_trl_s_groups_are_found_where_a_prompt_was_drawn_twice() -> None:
    assert groups_of(["a"] * 4 + ["b"] * 2) == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]
    assert groups_of(["a"] * 3) == [(0, 0), (0, 1), (0, 2)]
    assert groups_of([]) == []


def test_what_the_monitor_told_are_warnings_in_the_order_of_the_rounds(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", (), [])
    told = {"sign": "length", "what": "Longer", "cause": "It pays", "hint": "Cap it"}
    write_lines(run / "monitor.jsonl", [{"round": 3, "findings": [told], "said": ["length"]}])
    write_lines(run / "rolled_back.jsonl", [{"round": 2, "to": 1}])
    back = {"sign": "rolled back", "what": "The run was taken back to round 1", "cause": "", "hint": ""}
    assert list(open_run(run).warnings()) == [{"round": 2, **back}, {"round": 3, **told}]


def test_a_run_that_the_guard_stopped_says_why() -> None:
    rows = [{"round": number, "completions/clipped_ratio": 1.0} for number in range(1, 4)]
    (warning,) = guard_warnings(rows, {"patience": 3})
    assert "cut off" in warning["what"]
    assert "grpo.max_new_tokens" in warning["hint"]
    assert guard_warnings(rows, {"patience": 4}) == []
    assert guard_warnings([{"round": 1, "completions/clipped_ratio": "much"}], {"unknown": 1}) == []


def test_a_state_that_is_no_json_shows_no_curves(tmp_path: Path) -> None:
    run = make_trl_run(tmp_path / "out")
    (run / "trainer_state.json").write_text("{" * 10_000)
    (run / "trainer_state.json").touch()
    assert open_run(run).metrics()[1] == []
    (run / "trainer_state.json").write_text(json.dumps({"log_history": [1, {"step": "x"}, {"step": 2}]}))
    assert open_run(run).metrics()[1] == [{"round": 2, "step": 2}]
