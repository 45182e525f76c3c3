"""A model card's metadata, as `huggingface_hub` knows it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from grandrounds.exporting.chosen import Chosen
from grandrounds.policy.load import looks_like_path
from grandrounds.recipe import MEMORY
from grandrounds.shares import percents
from grandrounds.training.folder import ENVIRONMENT
from grandrounds.training.held_out import MEASURES
from grandrounds.training.target import made

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
# Measure of a run's evaluations -> what it is called, and what it says.
TOLD = {
    "accuracy": ("Accuracy", "right answers"),
    "format_rate": ("Form", "exactly one reasoning, then one answer"),
    "consistency": ("Consistency", "the answer is what the reasoning concludes"),
    "evidence": ("Evidence", "mean score of the cited findings"),
    "validity_given_correct": ("Validity", "right answers whose reasoning is valid too"),
}
assert set(TOLD) == set(MEASURES)


def hub_name(name: str) -> str | None:
    """The name where it is one on the Hub, else None: a local path says nothing elsewhere."""
    return name if HUB_NAME.fullmatch(name) and not looks_like_path(name) else None


def base_of(chosen: Chosen, given: str | None) -> str | None:
    """The base model's name on the Hub: as given, or as the recipe has it; None where neither names one."""
    return given or hub_name(chosen.recipe.policy.model)


def data_sets(chosen: Chosen) -> list[str]:
    """The cases' sources that are data sets on the Hub."""
    cases = chosen.recipe.cases
    named = [name for name in (cases.source, cases.test_source, *cases.mix) if name and name != MEMORY]
    return [name for name in dict.fromkeys(named) if made(name) is None and hub_name(name)]


def environment_of(chosen: Chosen) -> Mapping[str, Any]:
    """The run's environment.json: versions, and the hashes of its data files."""
    return json.loads((chosen.run.path / ENVIRONMENT).read_text(encoding="utf-8"))


def evaluation_of(chosen: Chosen) -> Mapping[str, Any] | None:
    """The run's held-out evaluation of this very checkpoint; None where there is none."""
    return next((row for row in chosen.run.evaluations() if row["round"] == chosen.round), None)


def source_name(chosen: Chosen) -> str:
    """What the cases are called, without the folders of this machine."""
    source = chosen.recipe.cases.source
    return source if made(source) or hub_name(source) else Path(source).name


def license_of(base: str | None, folder: str) -> str | None:
    """The base model's licence, where its own card lies here; nothing is downloaded."""
    from huggingface_hub import ModelCard, try_to_load_from_cache

    card: Any = Path(folder) / "README.md" if folder else None
    if (card is None or not card.is_file()) and base:
        card = try_to_load_from_cache(base, "README.md")
    if not isinstance(card, str | Path) or not Path(card).is_file():
        return None
    data: Any = ModelCard(Path(card).read_text(encoding="utf-8"), ignore_metadata_errors=True).data
    return data.license if isinstance(data.license, str) else None


def metadata(chosen: Chosen, kind: str, base: str | None, license: str | None) -> Any:
    """`ModelCardData` of one export. ValueError where huggingface_hub refuses it."""
    from huggingface_hub import ModelCardData

    adapter = kind == "adapter"
    found = results(chosen)
    return ModelCardData(
        model_name=chosen.recipe.name,
        base_model=base,
        base_model_relation=("adapter" if adapter else "finetune") if base else None,
        library_name="peft" if adapter else "gguf" if kind == "gguf" else "transformers",
        pipeline_tag="text-generation",
        datasets=data_sets(chosen) or None,
        license=license,
        tags=["grpo", "reasoning", "grandrounds"],
        metrics=[result.metric_type for result in found] or None,
        eval_results=found or None,
    )


def results(chosen: Chosen) -> list[Any]:
    """The evaluation of this checkpoint as `EvalResult`s, with intervals where the run kept them."""
    from huggingface_hub import EvalResult

    row = evaluation_of(chosen)
    if row is None:
        return []
    source = source_name(chosen)
    return [
        EvalResult(
            task_type="text-generation",
            task_name="Questions with a reasoning and an answer",
            dataset_type=hub_name(source) or "grandrounds",
            dataset_name=f"{source}, {chosen.run.watched} cases",
            dataset_split="test" if chosen.run.watched == "held-out" else "validation",
            metric_type=measure,
            metric_name=TOLD[measure][0] + _interval(row, measure),
            metric_value=round(row[measure], 4),
            metric_args={"cases": row["cases"], **_bounds(row, measure)},
        )
        for measure in MEASURES
        if row[measure] is not None
    ]


def _bounds(row: Mapping[str, Any], measure: str) -> dict[str, Any]:
    bounds = row.get(f"{measure}_interval")
    return {"interval_95": [round(bound, 4) for bound in bounds]} if bounds else {}


def _interval(row: Mapping[str, Any], measure: str) -> str:
    return f" (95 % interval {shown_interval(row, measure)})" if row.get(f"{measure}_interval") else ""


def shown_interval(row: Mapping[str, Any], measure: str) -> str:
    """ "88.6 to 99.1 %", or "" where the run kept none."""
    bounds = row.get(f"{measure}_interval")
    return f"{percents(bounds)} %" if bounds else ""
