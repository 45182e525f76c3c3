"""The Python API: what the command line does, as functions.

from grandrounds import Recipe, compare, evaluate, export, load_recipe, plan, resume, train
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from grandrounds.evaluating import EvaluationRequest, compare_targets, evaluate_target, own_cases
from grandrounds.evaluation import Comparison, Evaluation
from grandrounds.evaluation.progress import Done
from grandrounds.exporting.export import Exported, Wish, export_run
from grandrounds.planning.plan import Plan
from grandrounds.planning.planner import plan
from grandrounds.recipe import Recipe
from grandrounds.recipe_file import load_recipe
from grandrounds.reporting import report_run
from grandrounds.training.run import Run, resume, train
from grandrounds.training.target import open_target

__all__ = [
    "Plan",
    "Recipe",
    "Run",
    "compare",
    "evaluate",
    "export",
    "load_recipe",
    "plan",
    "report_run",
    "resume",
    "train",
]


def _source(cases: Any) -> Any:
    """Cases as an `EvaluationRequest` takes them: a file by its name."""
    return str(cases) if isinstance(cases, Path) else cases


def evaluate(
    policy: str | Path,
    cases: Any = None,
    *,
    samples: int | None = None,
    split: str = "auto",
    limit: int | None = None,
    overrides: Sequence[str] = (),
    faithfulness: bool = False,
    progress: Done | None = None,
) -> Evaluation:
    """Evaluate one policy: a run's folder, a checkpoint, a model's folder, a GGUF file or a Hub name.

    cases: None for a run's own, of which it held some out. They are built as the run built its own: with its labels,
    hard options and seed. Raises the `GrandRoundsError` family.
    """
    target = open_target(str(policy), overrides)
    source = own_cases([target])[0] if cases is None else _source(cases)
    how = EvaluationRequest(source, split, limit, samples, tuple(overrides), faithfulness)
    return evaluate_target(target, how, progress)


def compare(
    policies: Sequence[str | Path] | Mapping[str, str | Path],
    cases: Any = None,
    *,
    samples: int | None = None,
    split: str = "auto",
    limit: int | None = None,
    overrides: Sequence[str] = (),
    faithfulness: bool = False,
    progress: Done | None = None,
) -> Comparison:
    """Evaluate several policies on the same cases. The first is the regular one, the last the one of interest.

    cases: None for those of the first run, which builds them. Every policy gets the same cases, with the prompt of its
    own recipe.
    """
    named = policies.items() if isinstance(policies, Mapping) else [("", policy) for policy in policies]
    targets = [open_target(f"{name}={policy}" if name else str(policy), overrides) for name, policy in named]
    source = own_cases(targets)[0] if cases is None else _source(cases)
    how = EvaluationRequest(source, split, limit, samples, tuple(overrides), faithfulness)
    return compare_targets(targets, how, progress)


def export(
    run: str | Path,
    to: str | Sequence[str] = (),
    *,
    checkpoint: str | int | None = None,
    out: str | Path | None = None,
    prompts: int = 20,
    cases: Any = None,
    bfloat16: bool = False,
    overwrite: bool = False,
    base: str | None = None,
    license: str | None = None,
    converter: str | Path | None = None,
    overrides: Sequence[str] = (),
    note: Callable[[str], None] = print,
    progress: Done | None = None,
) -> list[Exported]:
    """Write a run's policy for use elsewhere: `adapter`, `merged`, `gguf`, each into a folder of its own in `out`.

    Each is loaded again by transformers (and PEFT), and its greedy tokens are compared with the run's own policy on
    `prompts` held-out prompts. An export that differs is an error and leaves nothing behind.

    checkpoint: `best`, `newest`, or a round. bfloat16: round the weights of whole models. base, license: for adapter
    and model card. converter: llama.cpp's convert_hf_to_gguf.py. note: is told of each step.
    progress: called with (steps done, steps in all). Raises the `GrandRoundsError` family.
    """
    wish = Wish(
        kinds=(to,) if isinstance(to, str) else tuple(to),
        checkpoint=checkpoint,
        out=Path(out) if out is not None else None,
        prompts=prompts,
        cases=_source(cases),
        bfloat16=bfloat16,
        overwrite=overwrite,
        base=base,
        license=license,
        converter=Path(converter) if converter is not None else None,
        overrides=tuple(overrides),
    )
    return export_run(run, wish, note, progress)
