"""Bad input of every kind, given to the command as a user would: one clear message, no traceback, exit code 1 (2 for a
mistake in the command itself)."""

from __future__ import annotations

import errno
import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from grandrounds.cli import main
from grandrounds.cli.errors import errors_shown
from grandrounds.cli.usage import run_command

Fails = Callable[..., str]
# The smallest run there is: an untrained model of a few thousand weights, eight tokens a completion.
TINY = [
    "cases.clinic_train=40",
    "cases.clinic_test=5",
    "policy.scratch.layers=1",
    "policy.scratch.hidden=16",
    "policy.scratch.heads=2",
    "policy.scratch.feedforward=16",
    "policy.scratch.vocabulary=300",
    "sft.steps=0",
    "rounds=1",
    "grpo.cases_per_round=2",
    "grpo.group_size=2",
    "grpo.max_new_tokens=8",
    "checkpoint.every=1",
]
GOOD = [
    {"id": str(i), "question": f"Question {i}?", "options": {"A": "one", "B": "two"}, "answer": "AB"[i % 2]}
    for i in range(20)
]


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """Runs `grandrounds …` in an empty folder; gives exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    # Wide enough that no message is broken into lines.
    monkeypatch.setenv("COLUMNS", "1000")

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["grandrounds", *arguments])
        capsys.readouterr()
        code: Any = 0
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return call


@pytest.fixture
def fails(run: Callable[..., tuple[int, str, str]]) -> Fails:
    """Runs a command that must fail with one message, and gives that message."""

    def call(*arguments: str) -> str:
        code, _, err = run(*arguments)
        assert code == 1, err
        assert sum(line.startswith("Error: ") for line in err.splitlines()) == 1, err
        assert "Traceback" not in err
        assert "  hint: " in err
        return err

    return call


def train(*overrides: str, recipe: str = "clinic", out: str = "run") -> list[str]:
    sets = [part for override in (*TINY, *overrides) for part in ("--set", override)]
    return ["train", recipe, "--out", out, *sets]


def written(path: Path, rows: list[Any]) -> str:
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return str(path)


def with_row(index: int, **changes: Any) -> list[dict[str, Any]]:
    """Twenty good rows, one of them changed; a value of None removes the key."""
    row = {key: value for key, value in {**GOOD[index], **changes}.items() if value is not None}
    return [*GOOD[:index], row, *GOOD[index + 1 :]]


BAD_CASES: dict[str, tuple[list[Any], tuple[str, ...]]] = {
    "broken JSON": ([*GOOD[:2], '{"id": "x", "question": ', *GOOD[2:]], ("cases.jsonl:3", "JSON")),
    "no object": ([*GOOD[:2], "[1, 2]", *GOOD[2:]], ("cases.jsonl:3", "object")),
    "missing question": (with_row(2, question=None), ("cases.jsonl:3", "question")),
    "missing answer": (with_row(2, answer=None), ("cases.jsonl:3", "answer")),
    "empty gold": (with_row(4, answer="  "), ("cases.jsonl:5", "answer")),
    "answer not among the options": (with_row(4, answer="three"), ("cases.jsonl:5", "three")),
    "duplicate ids": (with_row(7, id="3"), ("cases.jsonl:8", "3", "cases.jsonl:4")),
    "no cases": ([], ("cases.jsonl",)),
}


@pytest.mark.parametrize("kind", BAD_CASES)
@pytest.mark.parametrize("command", ["cases", "train"])
def test_a_bad_case_is_named_with_file_and_line(
    fails: Fails, tmp_path: Path, kind: str, command: str
) -> None:
    rows, named = BAD_CASES[kind]
    source = written(tmp_path / "cases.jsonl", rows)
    message = fails(*(["cases", source] if command == "cases" else train(f"cases.source={source}")))
    for text in named:
        assert text in message


def test_a_misspelt_column_is_named_with_the_one_meant(fails: Fails, tmp_path: Path) -> None:
    rows = [{"id": row["id"], "qestion": row["question"], "answer": row["answer"]} for row in GOOD]
    source = written(tmp_path / "cases.jsonl", rows)
    message = fails(*train(f"cases.source={source}", "cases.format=own"))
    assert "question" in message
    assert "qestion" in message


def test_a_mapped_column_that_is_not_there_is_named(fails: Fails, tmp_path: Path) -> None:
    source = written(tmp_path / "cases.jsonl", GOOD)
    message = fails(*train(f"cases.source={source}", "cases.columns={answer: anwser}"))
    assert "anwser" in message


@pytest.mark.parametrize("format", ["auto", "own"])
def test_a_misspelt_key_of_the_column_map_is_named_with_the_one_meant(
    fails: Fails, tmp_path: Path, format: str
) -> None:
    source = written(tmp_path / "cases.jsonl", GOOD)
    message = fails(*train(f"cases.source={source}", f"cases.format={format}", "cases.columns.qestion=text"))
    assert "cases.columns.qestion" in message
    assert "Did you mean `question`?" in message


def _not_utf8(path: Path) -> None:
    path.write_bytes(
        '{"question": "né?", "answer": "b"}\n'.encode() * 3 + b'{"question": "caf\xe9?", "answer": "b"}\n'
    )


def _half_gzip(path: Path) -> None:
    path.write_bytes(gzip.compress(json.dumps(GOOD[0]).encode() * 50)[:-20])


@pytest.mark.parametrize(
    ("name", "write", "named"),
    [
        ("none.jsonl", lambda path: None, "none.jsonl"),
        ("folder", lambda path: path.mkdir(), "folder"),
        ("empty.jsonl", lambda path: path.write_text(""), "empty.jsonl"),
        ("damaged.jsonl", _not_utf8, "damaged.jsonl:4"),
        ("half.jsonl.gz", _half_gzip, "half.jsonl.gz"),
        ("no.parquet", lambda path: path.write_text("no"), "no.parquet"),
        ("word.docx", lambda path: path.write_text("no"), "word.docx"),
        ("ragged.csv", lambda path: path.write_text("question,answer\na?,b\nc?,d,e\n"), "ragged.csv"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    fails: Fails, tmp_path: Path, name: str, write: Callable[[Path], Any], named: str
) -> None:
    write(tmp_path / name)
    assert named in fails("cases", str(tmp_path / name))


def test_no_cases_left_names_the_filter(fails: Fails, tmp_path: Path) -> None:
    packet = {
        "id": "p",
        "phenotypicFeatures": [{"type": {"id": "HP:1", "label": "Ataxia"}}],
        "interpretations": [{"diagnosis": {"disease": {"id": "OMIM:1", "label": "Rare"}}}],
        "metaData": {"externalReferences": [{"id": "PMID:1"}]},
    }
    source = written(tmp_path / "packets.jsonl", [packet])
    message = fails(*train(f"cases.source={source}", "cases.format=phenopackets"))
    assert "no cases are left" in message
    assert "min_train_cases" in message


def test_a_split_that_leaves_nothing_to_train_on_is_named(fails: Fails, tmp_path: Path) -> None:
    source = written(tmp_path / "cases.jsonl", GOOD)
    message = fails(*train(f"cases.source={source}", "cases.test_fraction=1", "rewards={accuracy: {}}"))
    assert "no training cases are left" in message
    assert "cases.test_fraction" in message


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("grpo.groupsize=4", ("grpo.groupsize", "group_size")),
        ("grpo.group_size=many", ("grpo.group_size", "whole number")),
        ("rounds=-1", ("rounds",)),
        ("cases.format=medqq", ("cases.format", "medqa")),
        ("rounds", ("--set rounds",)),
        ("rewards.accurracy.weight=1", ("accurracy", "accuracy")),
        ("policy.device=gpu9", ("policy.device",)),
        ("policy.scratch.hidden=17", ("policy.scratch.hidden",)),
    ],
)
def test_a_wrong_recipe_key_is_named_with_the_one_meant(
    fails: Fails, override: str, named: tuple[str, ...]
) -> None:
    message = fails(*train(override))
    for text in named:
        assert text in message


def test_an_unknown_recipe_names_the_one_meant(fails: Fails) -> None:
    assert "`clinic`" in fails(*train(recipe="clinik"))


def _model_folder(path: Path, *, template: str | None) -> str:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = Tokenizer(WordLevel({"<unk>": 0, "</s>": 1}, unk_token="<unk>"))
    words.pre_tokenizer = WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words,
        unk_token="<unk>",
        eos_token="</s>",
    )
    tokenizer.chat_template = template
    config = LlamaConfig(
        vocab_size=2,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=32,
        eos_token_id=1,
    )
    LlamaForCausalLM(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return str(path)


def test_a_missing_model_folder_is_named(fails: Fails, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "./nowhere" in fails(*train("policy.model=./nowhere"))
    assert "config.json" in fails(*train("policy.model=./empty"))


def test_a_hub_name_without_network_is_named(fails: Fails) -> None:
    assert "nobody/no-such-model" in fails(*train("policy.model=nobody/no-such-model"))


def test_a_prompt_longer_than_the_context_is_named_with_its_case(fails: Fails, tmp_path: Path) -> None:
    template = "{% for m in messages %}{{ m['content'] }} </s> {% endfor %}"
    model = _model_folder(tmp_path / "model", template=template)
    source = written(tmp_path / "cases.jsonl", [{**row, "question": "word " * 100} for row in GOOD])
    message = fails(
        *train(
            f"cases.source={source}",
            f"policy.model={model}",
            "grpo.cases_per_round=20",
            "rewards={accuracy: {}}",
        )
    )
    assert "context" in message
    assert "case " in message


BAD_REWARDS = {
    "raises": ("raise KeyError('dose')", "dose"),
    "hangs": ("import time; time.sleep(30)", "seconds"),
    "NaN": ("return [float('nan')] * len(completions)", "nan"),
    "wrong count": ("return [1.0]", "1"),
    "no number": ("return ['good'] * len(completions)", "good"),
    "nothing": ("pass", "None"),
    "exits": ("import sys; sys.exit(0)", "SystemExit"),
}


@pytest.mark.parametrize("kind", BAD_REWARDS)
def test_a_bad_reward_stops_the_run_and_is_named(fails: Fails, tmp_path: Path, kind: str) -> None:
    body, named = BAD_REWARDS[kind]
    (tmp_path / "mine.py").write_text(f"def judge(completions, **columns):\n    {body}\n")
    message = fails(
        *train("rewards={mine: {use: 'mine.py:judge', timeout_seconds: 0.2, retries: 0}}"),
    )
    assert "mine" in message
    assert named in message


@pytest.mark.parametrize("use", ["none.py:judge", "mine.py:jduge", "no.module:judge", "broken.py:judge"])
def test_a_reward_that_cannot_be_loaded_is_named(fails: Fails, tmp_path: Path, use: str) -> None:
    (tmp_path / "mine.py").write_text("def judge(completions): ...\n")
    (tmp_path / "broken.py").write_text("def judge(completions:\n")
    message = fails(*train(f"rewards={{mine: {{use: '{use}'}}}}"))
    assert "rewards.mine" in message


def test_a_reward_that_applies_to_no_case_is_named_with_one(fails: Fails, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def judge(completions):\n    return [None] * len(completions)\n")
    message = fails(*train("rewards={mine: {use: 'mine.py:judge'}}"))
    assert "no reward applies" in message
    assert "case train-" in message


def test_a_full_disk_keeps_the_checkpoint_before(
    fails: Fails, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from grandrounds.training import saving

    save = saving.write_state

    def full(folder: Path, tensors: Any, counters: Any) -> None:
        if counters["round"]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(folder, tensors, counters)

    monkeypatch.setattr(saving, "write_state", full)
    message = fails(*train())
    assert "the disk is full" in message
    assert sorted(path.name for path in (tmp_path / "run/checkpoints").iterdir()) == ["000000", "best"]
    monkeypatch.setattr(saving, "write_state", save)
    assert "there is a run here already" in fails(*train())


def test_a_run_that_is_not_there_is_named(fails: Fails, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "nowhere" in fails("resume", "nowhere")
    assert "empty" in fails("resume", "empty")
    # Before the cases are read, which these are not.
    assert "no such folder" in fails("evaluate", "./nowhere", "--cases", "none.jsonl")
    assert "no such folder" in fails("compare", "./nowhere", "./empty", "--cases", "none.jsonl")
    assert "no such folder" in fails("evaluate", str(tmp_path / "empty/typo"), "--cases", "none.jsonl")
    (Path.cwd() / "runs").mkdir(exist_ok=True)  # what lies in a folder that is there is no Hub name
    assert "no such folder" in fails("evaluate", "runs/typo", "--cases", "none.jsonl")
    assert "neither a run nor a model" in fails("evaluate", "empty", "--cases", "none.jsonl")


def test_a_bad_source_for_evaluation_is_named(
    run: Callable[..., tuple[int, str, str]], fails: Fails, tmp_path: Path
) -> None:
    code, _, err = run(*train("rounds=0"))
    assert code == 0, err
    assert "nowhere.jsonl" in fails("evaluate", "run", "--cases", "nowhere.jsonl")
    assert "unseen" in fails("evaluate", "run", "--cases", "clinic:unseen phrases")
    assert "tset" in fails("evaluate", "run", "--cases", "clinic", "--split", "tset")
    (tmp_path / "folder").mkdir()
    assert "folder" in fails("evaluate", "run", "--cases", "clinic", "--json", "folder")
    (tmp_path / "file").write_text("kept")
    for option in (("evaluate", "run", "--json"), ("compare", "run", "run", "--html")):
        # Before the cases are read: nobody waits for an evaluation that cannot be written.
        message = fails(*option, "file/under", "--cases", "nowhere.jsonl")
        assert "cannot write" in message
        assert "file/under" in message
    assert "nowhere.jsonl" in fails("evaluate", "run", "--cases", "nowhere.jsonl", "--json", "file")
    assert (tmp_path / "file").read_text() == "kept"
    assert "nowhere.jsonl" in fails("evaluate", "run", "--cases", "nowhere.jsonl", "--json", "new/file")
    assert not (tmp_path / "new/file").exists()


def test_a_run_is_evaluated_on_its_own_held_out_cases_and_a_model_needs_some(
    run: Callable[..., tuple[int, str, str]], fails: Fails, tmp_path: Path
) -> None:
    assert run(*train("rounds=0"))[0] == 0
    code, out, err = run("evaluate", "run", "--json", "result.json")
    assert code == 0, err
    assert out.splitlines()[0] == "Cases: held-out cases of clinic, as in run/recipe.yaml."
    result = json.loads((tmp_path / "result.json").read_text())
    assert (result["cases_source"], result["count"]) == ("clinic", 5)
    code, out, err = run("compare", "model=run/checkpoints/000000", "run", "--split", "all", "--limit", "6")
    assert code == 0, err
    assert out.splitlines()[0] == "Cases: all cases of clinic, as in run/recipe.yaml."
    model = _model_folder(tmp_path / "model", template=None)
    for command in (["evaluate", model], ["compare", model, model]):
        message = fails(*command)
        assert "has no cases of its own" in message
        assert "--cases FILE" in message


def test_an_unknown_tokenizer_is_named(fails: Fails, tmp_path: Path) -> None:
    source = written(tmp_path / "cases.jsonl", GOOD)
    assert "./nowhere" in fails("cases", source, "--tokenizer", "./nowhere")


def test_changed_cases_stop_a_resumed_run(
    run: Callable[..., tuple[int, str, str]], fails: Fails, tmp_path: Path
) -> None:
    source = written(tmp_path / "cases.jsonl", GOOD)
    code, _, err = run(*train(f"cases.source={source}", "rewards={accuracy: {}}", "rounds=0"))
    assert code == 0, err
    written(tmp_path / "cases.jsonl", GOOD[:-1])
    assert "cases.jsonl" in fails("resume", "run")


@pytest.mark.parametrize("arguments", [["trian"], ["train"], ["train", "clinic", "--rounds", "3"]])
def test_wrong_usage_exits_with_2_and_no_traceback(
    run: Callable[..., tuple[int, str, str]], arguments: list[str]
) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert "Traceback" not in err
    assert [line[:7] for line in err.splitlines()] == ["Error: ", "  at:  ", "  hint:"]


@pytest.mark.parametrize(
    ("arguments", "what", "where", "hint"),
    [
        ("trian", "there is no command `trian`", "grandrounds", "Did you mean `train`? "),
        ("rewards tset", "there is no command `tset`", "grandrounds rewards", "Did you mean `test`? "),
        ("zzz", "there is no command `zzz`", "grandrounds", ""),
        ("train", "missing argument `recipe`", "grandrounds train", ""),
        (
            "evaluate r --limt 3",
            "there is no option `--limt`",
            "grandrounds evaluate",
            "Did you mean `--limit`? ",
        ),
        ("evaluate r --limit x", "invalid value for `--limit`", "grandrounds evaluate", ""),
        (
            "train clinic --group-size=3",
            "there is no option `--group-size`",
            "grandrounds train",
            "Did you mean `--set grpo.group_size=…`? ",
        ),
        ("view r --rounds=3", "there is no option `--rounds`", "grandrounds view", ""),
        ("demo --full --llm", "invalid value for `--full`: not with `--llm`", "grandrounds demo", ""),
    ],
)
def test_a_mistake_in_a_command_is_told_as_all_others_are(
    run: Callable[..., tuple[int, str, str]], arguments: str, what: str, where: str, hint: str
) -> None:
    code, _, err = run(*arguments.split())
    said, at, mended = err.splitlines()
    assert code == 2
    assert said.startswith(f"Error: {what}")
    assert at == f"  at:   {where}"
    assert mended == f"  hint: {hint}See `{where} --help`."


def test_a_command_without_arguments_shows_its_help(run: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = run()
    assert (code, err) == (2, "")
    assert "Usage: grandrounds" in out


def test_ctrl_c_is_told_and_exits_with_130(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = typer.Typer()

    @app.command()
    def stopped() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sys.argv", ["grandrounds"])
    with pytest.raises(SystemExit) as end, errors_shown():
        run_command(app)
    assert end.value.code == 130
    assert capsys.readouterr().err.strip() == "Stopped."


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
@pytest.mark.parametrize("arguments", [["recipe", "clinic"], ["--version"]])
def test_output_to_a_full_disk_is_a_message(arguments: list[str]) -> None:
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "grandrounds", *arguments], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert ended.returncode == 1
    assert ended.stderr.startswith("Error: the disk is full\n")
    assert "Traceback" not in ended.stderr


def test_a_recipe_that_cannot_be_written_is_a_message(fails: Fails, tmp_path: Path) -> None:
    (tmp_path / "grpo.yaml").write_text(
        "model_name_or_path: tiny\ndataset_name: own/cases\n", encoding="utf-8"
    )
    message = fails("import", "trl", "grpo.yaml", "--out", "no/such/folder/mine.yaml")
    assert "the recipe cannot be written: No such file or directory" in message


@pytest.mark.parametrize("override", ["rounds=5", "sft.reasoning=false"])
def test_sft_refuses_what_it_would_write_over(fails: Fails, override: str) -> None:
    assert f"--set {override}" in fails("sft", "clinic", "--set", override)


def test_a_misspelt_source_of_a_domain_is_recognised(fails: Fails, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "Did you mean `clinic`?" in fails("cases", "clinik")
