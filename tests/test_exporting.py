"""An export holds the policy that was trained, loads without this package, and appears whole or not at all."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_training_changes import SCRATCH, rows
from tiny_models import tiny_model_folder
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from typer.testing import CliRunner

from grandrounds import export
from grandrounds.cli.app import app
from grandrounds.errors import CaseError, GrandRoundsError, PolicyError, RunError
from grandrounds.exporting import export as steps
from grandrounds.exporting import greedy
from grandrounds.recipe_file import recipe_from
from grandrounds.training.environment import sha256
from grandrounds.training.progress import SilentProgress
from grandrounds.training.run import train

ADAPTER_FILES = {
    "README.md",
    "adapter_config.json",
    "adapter_model.safetensors",
    "chat_template.jinja",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
}


def quiet(line: str) -> None:
    """No line is shown."""


def trained(folder: Path, policy: dict[str, Any], **changes: Any) -> Path:
    """A run of one round on cases in a file, evaluated at its beginning and end."""
    source = folder / "cases.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows(30)), encoding="utf-8")
    sections: dict[str, Any] = {
        "name": "sums",
        "rounds": 1,
        "cases": {"source": str(source), "test_fraction": 0.5},
        "prompt": {"system": ""},
        "policy": {"device": "cpu", "precision": "float32", "scratch": SCRATCH, **policy},
        "sft": {"steps": 6, "batch_cases": 4, "learning_rate": 0.02},
        "grpo": {"group_size": 2, "cases_per_round": 2, "max_new_tokens": 64, "temperature": 0.8},
        "rewards": {"length": {"options": {"buffer": 1.0}}},
        "evaluation": {"every": 1, "cases": 5},
        "guard": {"enabled": False},
        **changes,
    }
    return train(recipe_from(sections), folder / "run", progress=SilentProgress()).folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model_folder(tmp_path_factory.mktemp("models") / "tiny", "llama")


@pytest.fixture(scope="module")
def adapted(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("adapted"), {"model": str(base), "adapter": "lora"})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("whole"), {"model": "scratch"})


@pytest.fixture(scope="module")
def exported(adapted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Adapter and merged model of the newest checkpoint."""
    out = tmp_path_factory.mktemp("out") / "export"
    done = export(adapted, ("adapter", "merged"), checkpoint="newest", out=out, prompts=9, note=quiet)
    assert [(one.kind, one.check.prompts, one.check.ties) for one in done if one.check] == [
        ("adapter", 9, 0),
        ("merged", 9, 0),
    ]
    return out


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.tensor([[5, 60, 61, 200, 7]])).logits


def test_transformers_and_peft_alone_load_what_was_trained(exported: Path, base: Path) -> None:
    from peft import PeftModel

    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    before = logits(plain)
    merged = logits(AutoModelForCausalLM.from_pretrained(exported / "merged", dtype=torch.float32))
    adapter = logits(PeftModel.from_pretrained(plain, str(exported / "adapter")))
    torch.testing.assert_close(merged, adapter, rtol=1e-4, atol=1e-4)
    assert (adapter - before).abs().max() > 0.1


def test_the_folder_is_as_the_hub_has_them(exported: Path, adapted: Path) -> None:
    assert {path.name for path in (exported / "adapter").iterdir()} == ADAPTER_FILES
    names = {path.name for path in (exported / "merged").iterdir()}
    assert names == {name for name in ADAPTER_FILES if "adapter" not in name} | {
        "config.json",
        "model.safetensors",
    }
    for kind in ("adapter", "merged"):
        settings = GenerationConfig.from_pretrained(exported / kind)
        assert (settings.do_sample, settings.temperature, settings.max_new_tokens) == (True, 0.8, 64)
        assert (settings.top_k, settings.top_p) == (0, 1.0)
        tokenizer = AutoTokenizer.from_pretrained(exported / kind)
        assert (
            tokenizer.chat_template
            == AutoTokenizer.from_pretrained(adapted / "checkpoints/000001").chat_template
        )


def test_all_trained_weights_are_the_model_itself(whole: Path) -> None:
    export(whole, checkpoint="newest", prompts=3, note=quiet)
    (folder,) = (whole / "export").iterdir()
    assert folder.name == "merged"
    assert sha256(folder / "model.safetensors") == sha256(whole / "checkpoints/000001/model.safetensors")
    assert not (folder / "optimizer.safetensors").exists()
    with pytest.raises(RunError, match="trained all weights, so there is no adapter") as error:
        export(whole, "adapter", note=quiet)
    assert error.value.hint == "Export the whole model: --to merged."


def spoiled(write: Any, name: str) -> Any:
    """A writer that changes some weights after writing them."""

    def changed(source: Any, folder: Path, *further: Any) -> None:
        write(source, folder, *further)
        weights = load_file(folder / name)
        noisy = {key: one + 0.5 * torch.randn_like(one) for key, one in weights.items()}
        save_file(noisy, folder / name, {"format": "pt"})

    return changed


@pytest.mark.parametrize(
    ("kind", "name"), [("adapter", "adapter_model.safetensors"), ("merged", "model.safetensors")]
)
def test_an_export_that_answers_otherwise_is_an_error_and_leaves_nothing(
    kind: str, name: str, adapted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, f"write_{kind}", spoiled(getattr(steps, f"write_{kind}"), name))
    with pytest.raises(
        PolicyError, match=r"does not answer as the run's policy: it says '.*' where"
    ) as error:
        export(adapted, kind, out=tmp_path, prompts=3, note=quiet)
    assert error.value.where.startswith("prompt 1 (case ")
    assert "token 1 of the response" in error.value.where
    assert list(tmp_path.iterdir()) == []


def test_another_chat_template_is_an_error(
    adapted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = steps.write_adapter

    def changed(source: Any, folder: Path, name: str | None) -> None:
        write(source, folder, name)
        (folder / "chat_template.jinja").write_text("{{ messages[0]['content'] }}", encoding="utf-8")

    monkeypatch.setattr(steps, "write_adapter", changed)
    with pytest.raises(PolicyError, match="writes this prompt otherwise than the run did"):
        export(adapted, out=tmp_path, prompts=2, note=quiet)


def test_an_export_is_never_replaced_unasked_nor_by_half_of_another(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "merged").mkdir()
    (tmp_path / "merged/mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(RunError, match="there is something here already") as error:
        export(whole, out=tmp_path, note=quiet)
    assert "--overwrite" in error.value.hint
    with monkeypatch.context() as patch:
        patch.setattr(steps, "compare", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            export(whole, out=tmp_path, overwrite=True, prompts=1, note=quiet)
    assert [path.name for path in tmp_path.iterdir()] == ["merged"]
    assert [path.name for path in (tmp_path / "merged").iterdir()] == ["mine.txt"]
    (tmp_path / ".writing-merged").mkdir()  # of an export that was killed
    export(whole, out=tmp_path, overwrite=True, prompts=1, note=quiet)
    assert [path.name for path in tmp_path.iterdir()] == ["merged"]
    assert not (tmp_path / "merged/mine.txt").exists()


def test_the_checkpoint_is_the_one_asked_for(whole: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    for number, wanted in enumerate((None, "newest", 0)):
        export(whole, checkpoint=wanted, out=tmp_path / str(number), prompts=1, note=lines.append)
    assert [line.split(" of ")[1] for line in lines[::2]] == [
        "checkpoint best (after round 0).",
        "checkpoint 000001 (after round 1).",
        "checkpoint 000000 (after round 0).",
    ]
    with pytest.raises(RunError, match="no checkpoint `7`") as error:
        export(whole, checkpoint=7, note=quiet)
    assert error.value.hint == "It has best, 0, 1, and `newest`."
    with pytest.raises(RunError, match=r"no checkpoint `\.\./x`"):
        export(whole, checkpoint="../x", note=quiet)


def test_rounded_weights_are_half_as_large_and_said_to_be(adapted: Path, tmp_path: Path) -> None:
    (done,) = export(adapted, "merged", out=tmp_path, bfloat16=True, prompts=4, note=quiet)
    assert json.loads((done.folder / "config.json").read_text())["dtype"] == "bfloat16"
    assert {one.dtype for one in load_file(done.folder / "model.safetensors").values()} == {torch.bfloat16}
    assert done.check is not None
    assert done.check.limit == greedy.ROUNDED_TIE


def test_cases_that_were_never_saved_must_be_named(tmp_path: Path) -> None:
    sections = {"policy": {"scratch": SCRATCH}, "sft": {"steps": 1}, "rounds": 0, "prompt": {"system": ""}}
    run = train(
        recipe_from({**sections, "grpo": {"max_new_tokens": 64}}),
        tmp_path / "run",
        cases=rows(30),
        progress=SilentProgress(),
    )
    with pytest.raises(CaseError, match="cases were Python objects"):
        export(run.folder, note=quiet)
    (done,) = export(run.folder, cases=rows(4), note=quiet)
    assert done.check is not None
    assert done.check.prompts == 4


# The card


def card(folder: Path) -> tuple[Any, str]:
    from huggingface_hub import ModelCard

    loaded = ModelCard.load(folder / "README.md")
    return loaded.data, loaded.text


def test_the_card_says_what_the_run_knows(exported: Path, adapted: Path) -> None:
    data, text = card(exported / "adapter")
    assert (data.library_name, data.pipeline_tag, data.base_model) == ("peft", "text-generation", None)
    (row,) = [row for row in steps.choose(adapted, "newest").run.evaluations() if row["round"] == 1]
    results = {result.metric_type: result for result in data.eval_results}
    assert results["accuracy"].metric_value == round(row["accuracy"], 4)
    assert results["accuracy"].metric_args["interval_95"] == [
        round(one, 4) for one in row["accuracy_interval"]
    ]
    assert results["format_rate"].metric_args["cases"] == 5
    assert "interval_95" in results["format_rate"].metric_args
    assert sha256(adapted.parent / "cases.jsonl") in text
    assert "Base model: **To be filled in** (a local folder or file, `tiny`)" in text
    assert "## Licence\n\n**To be filled in**" in text
    assert "LoRA, rank 16, alpha 32" in text
    assert "6 steps of 4 demonstrations" in text
    assert "the same" in text
    assert "<|start_header_id|>user<|end_header_id|>\n\nThe question.<|eot_id|>" in text


@pytest.mark.parametrize("kind", ["adapter", "merged"])
def test_what_the_card_shows_runs(
    kind: str, exported: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, text = card(exported / kind)
    (code,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(exported / kind)
    exec(code, {})
    assert "The question." in capsys.readouterr().out


def test_no_case_and_no_path_of_this_machine_gets_into_the_card(exported: Path, adapted: Path) -> None:
    for kind in ("adapter", "merged"):
        text = (exported / kind / "README.md").read_text(encoding="utf-8")
        assert "plus" not in text.replace("surplus", "")  # "What is 3 plus 3?"
        assert str(adapted.parent) not in text
        assert str(Path.home()) not in text


def test_base_and_licence_are_taken_from_the_user_or_the_base_models_own_card(
    adapted: Path, base: Path, tmp_path: Path
) -> None:
    readme = base / "README.md"
    readme.write_text("---\nlicense: apache-2.0\n---\n", encoding="utf-8")
    try:
        (done,) = export(adapted, out=tmp_path / "1", base="someone/tiny", prompts=1, note=quiet)
    finally:
        readme.unlink()
    data, _ = card(done.folder)
    assert (data.base_model, data.license) == ("someone/tiny", "apache-2.0")
    settings = json.loads((done.folder / "adapter_config.json").read_text(encoding="utf-8"))
    assert settings["base_model_name_or_path"] == "someone/tiny"
    lines: list[str] = []
    (done,) = export(adapted, out=tmp_path / "2", license="mit", prompts=1, note=lines.append)
    assert card(done.folder)[0].license == "mit"
    assert lines[-1].startswith(f"adapter_config.json names {base}, which is on this machine alone")


# GGUF

STRANGE = """
import sys, gguf
from pathlib import Path
assert sys.argv[2] == "--outfile" and sys.argv[4:] == ["--outtype", "f32", "--model-name", "sums"]
assert (Path(sys.argv[1]) / "config.json").is_file() and (Path(sys.argv[1]) / "model.safetensors").is_file()
writer = gguf.GGUFWriter(sys.argv[3], "rwkv7")
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
"""


def converter(folder: Path, code: str) -> Path:
    path = folder / "convert_hf_to_gguf.py"
    path.write_text(code, encoding="utf-8")
    return path


def test_a_gguf_file_is_made_by_llama_cpps_converter_and_compared(
    adapted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from test_policy_gguf import written

    def convert(script: Path, model: Path, file: Path, precision: str, name: str) -> None:
        assert (script, precision, name) == (tmp_path / "convert_hf_to_gguf.py", "float32", "sums")
        shutil.move(written(model), file)

    monkeypatch.setattr(steps, "convert", convert)
    converter(tmp_path, "")
    monkeypatch.setenv("LLAMA_CPP", str(tmp_path))
    (done,) = export(adapted, "gguf", out=tmp_path / "out", prompts=5, note=quiet)
    assert {path.name for path in done.folder.iterdir()} == {
        "README.md",
        "generation_config.json",
        "sums.gguf",
    }
    assert done.check is not None
    assert (done.check.prompts, done.check.ties) == (5, 0)
    assert card(done.folder)[0].library_name == "gguf"


def test_what_the_converter_cannot_do_is_said(whole: Path, tmp_path: Path) -> None:
    failing = converter(tmp_path, "import sys; sys.exit('Model PhiForCausalLM is not supported')")
    with pytest.raises(RunError, match="converter failed: Model PhiForCausalLM is not supported"):
        export(whole, "gguf", out=tmp_path / "out", converter=failing, note=quiet)
    assert list((tmp_path / "out").iterdir()) == []
    lacking = converter(tmp_path, "import a_package_that_is_not_there")
    with pytest.raises(RunError, match="No module named 'a_package_that_is_not_there'") as error:
        export(whole, "gguf", out=tmp_path / "out", converter=lacking, prompts=1, note=quiet)
    assert "grandrounds[gguf]" in error.value.hint
    broken = converter(tmp_path, "import sys; open(sys.argv[3], 'wb').write(b'GGUF')")
    with pytest.raises(RunError, match="the GGUF file cannot be read back"):
        export(whole, "gguf", out=tmp_path / "out", converter=broken, prompts=1, note=quiet)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_gguf_file_that_transformers_does_not_know_is_said_not_to_be_compared(
    whole: Path, tmp_path: Path
) -> None:
    script = converter(tmp_path, STRANGE)
    lines: list[str] = []
    (done,) = export(whole, "gguf", out=tmp_path / "out", converter=script, prompts=1, note=lines.append)
    assert done.check is None
    assert (
        "NOT compared with the policy: ValueError: GGUF model with architecture rwkv7 is not supported yet."
        in lines[-1]
    )
    assert not lines[-1].endswith("..")
    assert "**not** compared" in (done.folder / "README.md").read_text(encoding="utf-8")


def test_without_a_converter_nothing_is_loaded_and_the_user_is_told_what_to_get(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LLAMA_CPP", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(steps, "_of_policy", lambda *_: pytest.fail("the policy was loaded"))
    with pytest.raises(RunError, match=r"needs llama\.cpp's converter") as error:
        export(whole, "gguf", out=tmp_path / "out", note=quiet)
    assert "--converter" in error.value.hint
    assert not (tmp_path / "out").exists()


def test_what_the_converter_imports_is_asked_for_before_the_policy_is_loaded(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "sentencepiece" else found(name)
    )
    monkeypatch.setattr(steps, "_of_policy", lambda *_: pytest.fail("the policy was loaded"))
    with pytest.raises(RunError, match="needs the package sentencepiece") as error:
        export(whole, "gguf", out=tmp_path / "out", converter=converter(tmp_path, ""), note=quiet)
    assert error.value.hint == "pip install 'grandrounds[gguf]'"


def test_the_command_exports_and_says_what_is_wrong(whole: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    done = CliRunner().invoke(app, ["export", str(whole), "--to", "merged", "--out", out, "--prompts", "2"])
    assert done.exit_code == 0, done.output
    assert "on 2 held-out prompts." in done.output
    again = CliRunner().invoke(app, ["export", str(whole), "--out", out])
    assert isinstance(again.exception, GrandRoundsError)
    wrong = CliRunner().invoke(app, ["export", str(whole), "--to", "onnx", "--out", out])
    assert "there is no export `onnx`" in str(wrong.exception)
