"""The commands `evaluate` and `compare`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grandrounds.cli.as_json import print_json
from grandrounds.cli.train import quiet_libraries
from grandrounds.errors import RunError

if TYPE_CHECKING:
    from rich.console import Console

    from grandrounds.training.target import Target

# As a file of `--json`: print the result, and nothing else.
STDOUT = Path("-")


def show_evaluation(
    policy: str,
    cases: str | None,
    samples: int | None,
    split: str,
    limit: int | None,
    overrides: Sequence[str],
    faithfulness: bool,
    json_file: Path | None,
) -> None:
    """Evaluate a policy, print its table, write its JSON."""
    quiet_libraries()
    from rich.console import Console

    from grandrounds.cli.progress import counted
    from grandrounds.evaluating import EvaluationRequest, evaluate_target
    from grandrounds.report.tables import print_evaluation
    from grandrounds.training.target import open_target

    writable(json_file)
    target = open_target(policy, overrides)
    console = Console(highlight=False, quiet=json_file == STDOUT)
    source = cases or _own_cases(console, [target], split)
    request = EvaluationRequest(source, split, limit, samples, tuple(overrides), faithfulness)
    with counted("Evaluating") as progress:
        evaluation = evaluate_target(target, request, progress)
    print_evaluation(console, target.name, evaluation)
    if notice := notice_of(source):
        console.print(notice, soft_wrap=True, markup=False)
    if json_file is not None:
        write_json(json_file, {"policy": policy, "cases_source": source, **evaluation.to_json()})


def show_comparison(
    policies: Sequence[str],
    cases: str | None,
    samples: int | None,
    split: str,
    limit: int | None,
    overrides: Sequence[str],
    faithfulness: bool,
    json_file: Path | None,
    html: Path | None,
) -> None:
    """Evaluate policies on the same cases; print tables and one case side by side, write JSON and page."""
    quiet_libraries()
    from rich.console import Console

    from grandrounds.cli.progress import counted
    from grandrounds.evaluating import EvaluationRequest, compare_targets
    from grandrounds.report.page import write_page
    from grandrounds.report.side_by_side import print_example
    from grandrounds.report.tables import print_comparison
    from grandrounds.training.target import open_target

    writable(json_file)
    writable(html)
    targets = [open_target(policy, overrides) for policy in policies]
    console = Console(highlight=False, quiet=json_file == STDOUT)
    source = cases or _own_cases(console, targets, split)
    request = EvaluationRequest(source, split, limit, samples, tuple(overrides), faithfulness)
    with counted("Evaluating") as progress:
        comparison = compare_targets(targets, request, progress)
    print_comparison(console, comparison, notice=notice_of(source))
    for example in comparison.examples()[:1]:
        print_example(console, comparison, example)
    if json_file is not None:
        write_json(json_file, {"cases_source": source, **comparison.to_json(cases=True)})
    if html is not None:
        write_page(html, comparison, cases=f"cases of {Path(source).name}", notice=notice_of(source))
        console.print(f"Page: {html}", soft_wrap=True, markup=False)


def notice_of(cases: str) -> str:
    """The notice that must be shown with results on these cases, or ""."""
    from grandrounds.domain import every

    source = every("sources").get(cases.partition(":")[0])
    return source.notice if source else ""


def _own_cases(console: Console, targets: Sequence[Target], split: str) -> str:
    """The run's own source, which is said. CaseError where no target is a run."""
    from grandrounds.evaluating import own_cases
    from grandrounds.report.prose import print_prose
    from grandrounds.training.folder import RECIPE

    source, run = own_cases(targets)
    which = {"all": "all cases", "train": "training cases", "validation": "validation cases"}.get(
        split, "held-out cases"
    )
    recipe = Path(run.model).parent.parent / RECIPE
    print_prose(console, f"{which} of {source}, as in {recipe}.", label="Cases: ")
    return source


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file, or print it. RunError where it cannot be written."""
    if path == STDOUT:
        print_json(value)
        return
    with _writing(path):
        path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def writable(path: Path | None) -> None:
    """RunError if the file cannot be written, before minutes of work. Opens it without changing its content."""
    if path is None or path == STDOUT:
        return
    if path.is_dir():
        raise RunError("this is a folder", where=str(path), hint="Name a file.")
    with _writing(path):
        new = not path.exists()
        path.open("a").close()
        if new:
            path.unlink()


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Makes the file's folder. RunError where the folder or the file cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise RunError(
            f"cannot write: {error.strerror}", where=str(path), hint="Choose another file."
        ) from error
