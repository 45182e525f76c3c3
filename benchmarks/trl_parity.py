"""Three TRL scripts under TRL and under ours: what rewards are passed, prompts, learning rates, names in the log.

    PYTHONPATH=src .venv-peers/bin/python benchmarks/trl_parity.py

The scripts are those of tests/trl_scripts, on a tiny random model. Completions differ, since the two sample
differently; what is compared does not depend on them. Writes benchmarks/results/trl-parity.json.
"""

from __future__ import annotations

import functools
import inspect
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.record import RESULTS, ROOT, record

SCRIPTS = ROOT / "tests" / "trl_scripts"
COLUMNS = (
    "script",
    "arguments of rewards",
    "prompts, token by token",
    "steps",
    "learning rates",
    "not in our log",
)


def main() -> int:
    """Run both sides of each script, compare, and write the result; 1 where they differ."""
    if len(sys.argv) > 1:
        run_side(*sys.argv[1:])
        return 0
    rows, measured, equal = [], {}, True
    with tempfile.TemporaryDirectory() as scratch:
        model = make_model(Path(scratch) / "model")
        for path in sorted(SCRIPTS.glob("*.py")):
            sides = [
                seen_by(side, path.stem, model, Path(scratch) / f"{side}-{path.stem}")
                for side in ("trl", "ours")
            ]
            found, same = compared(*sides)
            equal &= same
            rows.append((path.stem, *found))
            measured[path.stem] = {"trl": sides[0]["arguments"], "ours": sides[1]["arguments"]}
            print(*rows[-1], sep="  ", flush=True)
    import trl

    note = (
        f"TRL {trl.__version__}, its loop and its sampling. Arguments: names and types of everything that each reward "
        "function was passed at its first call. TRL passes a whole batch in one call, ours a group."
    )
    record(RESULTS / "trl-parity.json", COLUMNS, rows, note, arguments=measured)
    return 0 if equal else 1


def compared(theirs: dict[str, Any], ours: dict[str, Any]) -> tuple[tuple[str, ...], bool]:
    """The row of the table, and whether all that must be equal is."""
    prompts = theirs["prompts"].keys() & ours["prompts"].keys()
    same_prompts = [theirs["prompts"][prompt] == ours["prompts"][prompt] for prompt in prompts]
    rates = [abs(a - b) <= 1e-12 for a, b in zip(theirs["rates"], ours["rates"], strict=False)]
    same_arguments = theirs["arguments"] == ours["arguments"]
    missing = sorted(set(theirs["names"]) - set(ours["names"]))
    row = (
        f"equal, of {len(theirs['arguments'])} functions" if same_arguments else "differ",
        f"{sum(same_prompts)} of {len(prompts)} equal",
        "equal" if theirs["steps"] == ours["steps"] else f"{theirs['steps']} and {ours['steps']}",
        f"{sum(rates)} of {max(len(theirs['rates']), len(ours['rates']))} equal",
        ", ".join(f"`{name}`" for name in missing) or "none",
    )
    equal = same_arguments and bool(prompts) and all(same_prompts) and theirs["steps"] == ours["steps"]
    return row, equal and all(rates) and len(theirs["rates"]) == len(ours["rates"])


def seen_by(side: str, script: str, model: Path, output: Path) -> dict[str, Any]:
    """What one side did, from a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, side, script, str(model), str(output)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{script} under {side}:\n{done.stderr[-4000:]}")
    return dict(json.loads((output / "seen.json").read_text(encoding="utf-8")))


def run_side(side: str, script: str, model: str, output: str) -> None:
    """Run one script with its trainer watched, and write what was seen."""
    name = "trl" if side == "trl" else "grandrounds.trl"
    module: Any = __import__(name, fromlist=["GRPOTrainer"])
    seen: dict[str, Any] = {"arguments": {}, "prompts": {}}
    module.GRPOTrainer = watched(module.GRPOTrainer, side, seen)
    path = SCRIPTS / f"{script}.py"
    text = path.read_text(encoding="utf-8").replace("from trl import", f"from {name} import")
    sys.argv = [script, model, output]
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(text, str(path), "exec"), names)
    history = names["trainer"].state.log_history
    seen["steps"] = names["result"].global_step
    seen["rates"] = [row["learning_rate"] for row in history if "loss" in row]
    seen["names"] = sorted({key for row in history for key in row})
    Path(output).mkdir(exist_ok=True)
    (Path(output) / "seen.json").write_text(json.dumps(seen), encoding="utf-8")


def watched(trainer: Any, side: str, seen: dict[str, Any]) -> Any:
    """The trainer, writing down what its reward functions are passed and how prompts are tokenized."""

    class Watched(trainer):
        def __init__(self, *, reward_funcs: Any, **given: Any) -> None:
            several = reward_funcs if isinstance(reward_funcs, list) else [reward_funcs]
            super().__init__(reward_funcs=[watched_reward(one, seen) for one in several], **given)

        def _tokenize_prompts(self, prompts: list[Any]) -> Any:
            found = super()._tokenize_prompts(prompts)
            seen["prompts"] |= {
                json.dumps(one): list(ids) for one, ids in zip(prompts, found[0], strict=True)
            }
            return found

    if side == "trl":
        return Watched

    class WatchedOurs(Watched):
        def train(self, *given: Any) -> Any:
            from grandrounds.sampling import prompts as module

            make = module.encode_prompt, module.encode_raw

            def chat(tokenizer: Any, messages: Any, *further: Any) -> Any:
                made = make[0](tokenizer, messages, *further)
                rows = [{"role": message.role, "content": message.content} for message in messages]
                seen["prompts"][json.dumps(rows)] = made[0].tolist()
                return made

            def raw(tokenizer: Any, text: str) -> Any:
                seen["prompts"][json.dumps(text)] = (made := make[1](tokenizer, text)).tolist()
                return made

            for place, asked in (("encode_prompt", chat), ("encode_raw", raw)):
                setattr(module, place, asked)
            return super().train(*given)

    return WatchedOurs


def watched_reward(function: Any, seen: dict[str, Any]) -> Any:
    """The function, writing down names and types of what its first call is passed."""
    name = getattr(function, "__name__", type(function).__name__)

    def note(given: dict[str, Any]) -> None:
        seen["arguments"].setdefault(name, {key: kind(value) for key, value in sorted(given.items())})

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def later(**given: Any) -> Any:
            note(given)
            return await function(**given)

        return later

    def now(**given: Any) -> Any:
        note(given)
        return function(**given)

    now.__name__ = name
    return now


def kind(value: Any) -> str:
    """The type in words: of lists and messages, what they hold."""
    if isinstance(value, list):
        return f"list of {kind(value[0])}" if value else "list"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {kind(one)}" for key, one in sorted(value.items())) + "}"
    return "function" if callable(value) else type(value).__name__


def make_model(folder: Path) -> Path:
    """A tiny model with random weights."""
    sys.path.insert(0, str(ROOT / "tests"))
    from tiny_models import tiny_model_folder

    return tiny_model_folder(folder, "qwen2")


if __name__ == "__main__":
    sys.exit(main())
