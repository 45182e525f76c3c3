"""Each tracker tells its library the right things: small modules stand in for the libraries."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from grandrounds.tracking.known import open_tracker
from grandrounds.tracking.mlflow import SETTINGS
from grandrounds.tracking.tracker import TrackedRun

ROWS = [
    {"case": "1", "completion": "a|b\n<script>#x</script>", "reward": 1.0},
    {"case": "2", "completion": "c", "reward": 0.0},
]
RECIPE = {f"key.{number}": number for number in range(130)}


class Calls:
    """Records every call of every attribute: ("log", args, kwargs). Attributes set beforehand answer instead."""

    def __init__(self, **answers: Any) -> None:
        self.made: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self._answers = answers

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **further: Any) -> Any:
            self.made.append((name, args, further))
            answer = self._answers.get(name)
            return answer(*args, **further) if callable(answer) else answer

        return call

    def of(self, name: str) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        return [(args, further) for called, args, further in self.made if called == name]


def stand_in(patch: pytest.MonkeyPatch, name: str, **members: Any) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(members)
    patch.setitem(sys.modules, name, module)
    return module


def told(
    name: str, folder: Path, known: str | None = None, recipe: Mapping[str, Any] = RECIPE
) -> tuple[Any, str]:
    """A tracker that has been told of a short run, and what it calls that run."""
    tracker = open_tracker(name)
    called = tracker.begin(TrackedRun("mine", folder, recipe, known, rounds=3, sft=8))
    tracker.numbers("sft", 8, {"loss": 2.0})
    tracker.numbers("round", 4, {"reward": 0.5, "rewards/a?b/mean": 1.0})
    tracker.completions(4, ROWS)
    (folder / "recipe.yaml").write_text("name: mine\n", encoding="utf-8")
    tracker.files({"recipe.yaml": folder / "recipe.yaml", "policy/a.json": folder / "recipe.yaml"})
    tracker.end("stopped")
    return tracker, called


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_MODE", "WANDB_PROJECT", "WANDB_DIR", "MLFLOW_EXPERIMENT_NAME", "TRACKIO_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    for name in (*SETTINGS, "WANDB_ERROR_REPORTING", "HF_HUB_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, "")  # so that what is set here is put back
        monkeypatch.delenv(name)


def mlflow(patch: pytest.MonkeyPatch) -> Calls:
    client = Calls(
        get_experiment_by_name=None,
        create_experiment="4",
        create_run=SimpleNamespace(info=SimpleNamespace(run_id="r1")),
    )
    entities = SimpleNamespace(
        Param=lambda key, value: (key, value), Metric=lambda name, value, time, step: (name, value, step)
    )
    stand_in(patch, "mlflow", MlflowClient=lambda: client, entities=entities)
    return client


def test_mlflow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    client = mlflow(monkeypatch)
    _, called = told("mlflow", tmp_path)
    assert called == "r1"
    assert client.of("create_experiment") == [(("grandrounds",), {})]
    parameters = [further["params"] for _, further in client.of("log_batch") if "params" in further]
    assert [len(some) for some in parameters] == [100, 30]  # the most that it takes at once
    metrics = [further["metrics"] for _, further in client.of("log_batch") if "metrics" in further]
    assert metrics == [[("sft/loss", 2.0, 8)], [("reward", 0.5, 4), ("rewards/a_b/mean", 1.0, 4)]]
    ((run, columns, name), _), *_ = client.of("log_table")
    assert (run, name, columns["reward"]) == ("r1", "completions/000004.json", [1.0, 0.0])
    assert [args[2] for args, _ in client.of("log_artifact")] == [None, "policy"]
    assert client.of("set_terminated") == [(("r1", "KILLED"), {})]


def test_mlflow_gets_long_settings_whole_and_is_told_where_what_it_cannot_take_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    client = mlflow(monkeypatch)
    told("mlflow", tmp_path, recipe={"prompt.system": "x" * 6000, "prompt.other": "y" * 6001})
    ((_, further), *_) = client.of("log_batch")
    whole, cut = (value for _, value in further["params"])
    assert whole == "x" * 6000
    assert len(cut) == 6000
    assert cut.endswith("y [cut here: recipe.yaml among the artefacts has all 6,001 characters]")


def test_mlflow_goes_on_with_a_run_and_leaves_its_parameters(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    client = mlflow(monkeypatch)
    _, called = told("mlflow", tmp_path, known="r0")
    assert called == "r0"
    assert client.of("update_run") == [(("r0",), {"status": "RUNNING"})]
    assert not client.of("create_run")
    assert not [further for _, further in client.of("log_batch") if "params" in further]


def test_mlflow_tells_nobody_that_it_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import os

    mlflow(monkeypatch)
    told("mlflow", tmp_path)
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


def wandb(patch: pytest.MonkeyPatch) -> tuple[Calls, Calls, Calls]:
    artifact, run = Calls(), Calls()
    run.__dict__["id"] = "w1"
    module = Calls(
        init=run, Settings=lambda **settings: settings, Table=lambda **table: table, Artifact=artifact
    )
    patch.setitem(sys.modules, "wandb", module)  # type: ignore[arg-type]
    module._answers["init"] = lambda **further: run
    module._answers["Artifact"] = lambda name, type: artifact
    return module, run, artifact


def test_wandb_is_offline_unless_its_mode_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    module, run, artifact = wandb(monkeypatch)
    _, called = told("wandb", tmp_path)
    ((_, how),) = module.of("init")
    assert (called, how["mode"], how["id"], how["resume"]) == ("w1", "offline", None, None)
    assert (how["project"], how["dir"], how["config"]) == ("grandrounds", str(tmp_path), RECIPE)
    assert how["settings"]["x_disable_meta"]
    assert not how["settings"]["host"]
    logged = [args[0] for args, _ in run.of("log")]
    assert logged[0] == {"sft/step": 8, "sft/loss": 2.0}
    assert (logged[1]["round"], logged[1]["reward"]) == (4, 0.5)
    assert logged[2]["completions"]["data"][1] == ["2", "c", 0.0]
    assert [further["name"] for _, further in artifact.of("add_file")] == ["recipe.yaml", "policy/a.json"]
    assert run.of("finish") == [((), {"exit_code": 1})]
    monkeypatch.setenv("WANDB_MODE", "online")
    told("wandb", tmp_path, known="w0")
    _, how = module.of("init")[-1]
    assert (how["mode"], how["id"], how["resume"]) == ("online", "w0", "allow")


def test_trackio_goes_on_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    artifact, run = Calls(), Calls()
    run.__dict__["name"] = "mine-1"
    module = Calls(
        init=lambda **further: run,
        Table=lambda dataframe: dataframe,
        Artifact=lambda name, type: artifact,
    )
    monkeypatch.setitem(sys.modules, "trackio", module)  # type: ignore[arg-type]
    _, called = told("trackio", tmp_path)
    ((_, how),) = module.of("init")
    assert called.startswith("mine-")
    assert (how["name"], how["resume"], how["project"]) == (called, "never", "grandrounds")
    assert "space_id" not in how
    assert [further["step"] for _, further in run.of("log")] == [8, 4, 4]
    assert list(run.of("log")[2][0][0]["completions"]["case"]) == ["1", "2"]
    assert len(module.of("finish")) == 1
    told("trackio", tmp_path, known=called)
    _, how = module.of("init")[-1]
    assert (how["name"], how["resume"]) == (called, "allow")


class Writer:
    """torch's SummaryWriter, as far as it is used."""

    made: list[Writer] = []  # noqa: RUF012

    def __init__(self, folder: str, purge_step: int | None) -> None:
        self.folder, self.purge = Path(folder), purge_step
        self.scalars: list[Any] = []
        self.texts: dict[str, str] = {}
        self.closed = False
        self.made.append(self)

    def add_scalar(self, *what: Any) -> None:
        self.scalars.append(what)

    def add_text(self, name: str, text: str, step: int) -> None:
        self.texts[name] = text

    def flush(self) -> None: ...

    def close(self) -> None:
        self.closed = True


def test_tensorboard_hides_what_is_made_again_and_shows_text_as_text(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(Writer, "made", [])
    stand_in(monkeypatch, "torch.utils.tensorboard", SummaryWriter=Writer)
    told("tensorboard", tmp_path)
    told("tensorboard", tmp_path, known="tensorboard")
    assert [(one.folder.name, one.purge) for one in Writer.made] == [
        ("rounds", None),
        ("sft", None),
        ("rounds", 4),
        ("sft", 9),
    ]
    rounds, sft = Writer.made[:2]
    assert rounds.scalars == [("reward", 0.5, 4), ("rewards/a?b/mean", 1.0, 4)]
    assert sft.scalars == [("loss", 2.0, 8)]
    header, _, first, *_ = rounds.texts["completions"].splitlines()
    assert header == "| case | completion | reward |"
    assert first == ("| 1 | a&#124;b<br>&lt;script&gt;#x&lt;/script&gt; | 1.0 |")
    assert "| key.129 | 129 |" in rounds.texts["recipe"]
    assert all(one.closed for one in Writer.made)
