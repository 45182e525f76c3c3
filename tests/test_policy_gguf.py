"""A GGUF file is a model like any other: its weights, tokenizer and chat template are those of the model in it."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import tiny_model_folder
from transformers import AutoModelForCausalLM, AutoTokenizer

from grandrounds.cli.steps import STEPS
from grandrounds.cli.train import quiet_libraries
from grandrounds.errors import PolicyError
from grandrounds.policy import gguf as ours
from grandrounds.policy.load import load_policy
from grandrounds.recipe import PolicyRecipe
from grandrounds.training.folder import RunFolder
from grandrounds.training.progress import SilentProgress
from grandrounds.training.run import resume, train

gguf = pytest.importorskip("gguf")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRANDROUNDS_CACHE", str(tmp_path / "cache"))


def written(folder: Path, **changes: object) -> Path:
    """The tiny Llama of `folder` as a GGUF file, as llama.cpp's converter writes it, in float32."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    config, state = model.config, model.state_dict()
    file = folder.with_suffix(".gguf")
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    vocabulary(writer, folder, changes)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, tensor in state.items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        array = tensor.numpy()
        for kind, heads in (("q_proj", config.num_attention_heads), ("k_proj", config.num_key_value_heads)):
            if kind in name:  # llama.cpp has the two halves of rotary pairs side by side
                array = array.reshape(heads, 2, -1, array.shape[1]).swapaxes(1, 2).reshape(array.shape)
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), np.ascontiguousarray(array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def vocabulary(writer: object, folder: Path, changes: dict[str, object]) -> None:
    parts = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokens = sorted(parts["model"]["vocab"], key=parts["model"]["vocab"].__getitem__)
    special = {token["content"] for token in parts["added_tokens"]}
    merges = [" ".join(merge) if isinstance(merge, list) else merge for merge in parts["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in special else 1 for token in tokens])
    writer.add_token_merges(merges)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    if tokenizer.bos_token_id is not None:
        writer.add_bos_token_id(tokenizer.bos_token_id)
    if changes.get("template", True):
        writer.add_chat_template(tokenizer.chat_template)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_model_folder(tmp_path / "tiny", "llama")


def test_a_gguf_file_is_the_model_that_it_was_made_of(model: Path) -> None:
    file = written(model)
    recipe = PolicyRecipe(adapter="full", precision="float32", device="cpu", model=str(file))
    found = load_policy(recipe, seed=0)
    plain = load_policy(recipe.model_copy(update={"model": str(model)}), seed=0)
    for name, weight in plain.model.state_dict().items():
        expected = weight.to(torch.bfloat16).float()
        torch.testing.assert_close(found.model.state_dict()[name], expected, msg=name)
    text = "Fever; 38.5 °C. <answer>B</answer>"
    assert found.tokenizer.encode(text, add_special_tokens=False) == plain.tokenizer.encode(
        text, add_special_tokens=False
    )
    assert found.tokenizer.chat_template == plain.tokenizer.chat_template
    assert found.end_id == plain.end_id


def test_it_is_unpacked_once_and_again_when_it_changes(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(model)
    first = ours.unpacked(file)
    monkeypatch.setattr(ours, "_unpack", lambda *unused: pytest.fail("unpacked again"))
    assert ours.unpacked(file) == first
    monkeypatch.undo()
    monkeypatch.setenv("GRANDROUNDS_CACHE", str(first.parent))
    written(tiny_model_folder(model, "llama", seed=1))
    assert ours.unpacked(file) != first
    assert not list(first.parent.glob("*.gguf.*"))


def test_the_command_line_says_once_that_it_is_unpacked_and_no_library_draws_a_bar(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(model)
    monkeypatch.setattr(STEPS, "handlers", [])
    monkeypatch.setattr(STEPS, "level", logging.NOTSET)
    quiet_libraries()
    quiet_libraries()
    capsys.readouterr()
    ours.unpacked(file)
    ours.unpacked(file)
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", f"Unpacking {file.name} …\n")


def test_a_run_trains_one_with_lora_and_goes_on(model: Path, tmp_path: Path) -> None:
    from test_training_changes import recipe, rows

    file = written(model)
    settings = recipe(policy={"model": str(file), "adapter": "lora", "device": "cpu"}, rounds=1)
    run = train(settings, tmp_path / "run", cases=rows(), progress=SilentProgress())
    assert RunFolder.open(run.folder).recipe().policy.model == str(file)
    assert resume(run.folder, ["rounds=2"], cases=rows(), progress=SilentProgress()).finished


def test_what_is_no_gguf_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusal(name: str) -> str:
        with pytest.raises(PolicyError) as error:
            load_policy(PolicyRecipe(model=str(tmp_path / name)), seed=0)
        return str(error.value)

    assert "no such file" in refusal("none.gguf")
    (tmp_path / "text.gguf").write_text("no model")
    assert "cannot be read" in refusal("text.gguf")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (tmp_path / "other.gguf").write_text("x")
    assert "grandrounds[gguf]" in refusal("other.gguf")


def test_missing_weights_are_not_made_up(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add = gguf.GGUFWriter.add_tensor

    def without_one(self: object, name: str, array: np.ndarray) -> None:
        if name != "blk.1.ffn_up.weight":
            add(self, name, array)

    monkeypatch.setattr(gguf.GGUFWriter, "add_tensor", without_one)
    file = written(model)
    with pytest.raises(PolicyError, match=r"weights are missing: .*layers\.1\.mlp\.up_proj"):
        ours.unpacked(file)


def test_a_tokenizer_that_gives_no_text_back_is_refused(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(model)
    monkeypatch.setattr(ours, "TEXTS", ("a text that no tokenizer gives back\x00 ",))
    with pytest.raises(PolicyError, match="does not work: of the text"):
        ours.unpacked(file)
