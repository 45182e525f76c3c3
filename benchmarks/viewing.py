"""How fast `grandrounds view` opens a long run and finds things in it.

    python benchmarks/viewing.py --json benchmarks/results/viewing.json
    python benchmarks/viewing.py --rounds 250 --groups 100 --size 8      200,000 completions
    python benchmarks/viewing.py --trl                                   as many of TRL's, as chat messages

A run's folder of that size is made up, with the columns of the trace and texts of words drawn by lot. The command
serves it, and every question of a visit is asked over HTTP, as the page does. Seconds are by the clock and, beside
them, of the server's processor: on a busy machine the second says more. Where Playwright and Chromium are there, the
page is timed too, from its address to the list.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from bench.machine import describe_machine
from grandrounds.training.environment import code_version
from grandrounds.view.filters import FILTERS

SEARCHED = "zebra crossing"  # a text that is nowhere: all of the run is read
LONG = 90  # words in a completion


def make_run(folder: Path, rounds: int, groups: int, size: int) -> None:
    """A folder that looks like a run of this many rounds."""
    (folder / "rollouts").mkdir(parents=True)
    (folder / "recipe.yaml").write_text("name: made up\n", encoding="utf-8")
    draw = random.Random(0)
    words = ["".join(draw.choices("aeioubcdfglmnprst", k=draw.randint(2, 9))) for _ in range(3000)]
    cases = [" ".join(draw.choices(words, k=LONG)) for _ in range(2000)]
    with (folder / "metrics.jsonl").open("w", encoding="utf-8") as metrics:
        for number in range(1, rounds + 1):
            rows = [row for group in range(groups) for row in _group(draw, words, cases, number, group, size)]
            path = folder / "rollouts" / f"{number:06d}.parquet"
            pq.write_table(_table(rows), path, compression="zstd")
            metrics.write(json.dumps({"round": number, **{f"m{i}": draw.random() for i in range(40)}}) + "\n")


def make_trl_run(folder: Path, rounds: int, groups: int, size: int) -> None:
    """An output_dir of TRL with the same completions."""
    (folder / "completions").mkdir(parents=True)
    make_run(folder / "ours", rounds, groups, size)
    for path in sorted((folder / "ours" / "rollouts").glob("*.parquet")):
        rows = [
            {
                "step": row["round"],
                "prompt": [{"role": "user", "content": row["question"]}],
                "completion": [{"role": "assistant", "content": row["completion"]}],
                "accuracy_reward": row["rewards/accuracy"],
                "advantage": row["advantage"],
                "solution": row["gold"],
            }
            for row in pq.read_table(path).to_pylist()
        ]
        pq.write_table(
            pa.Table.from_pylist(rows), folder / "completions" / f"completions_{int(path.stem):05d}.parquet"
        )
    shutil.rmtree(folder / "ours")


def _table(rows: list[dict[str, Any]]) -> pa.Table:
    """The rows with the trace's types."""
    table = pa.Table.from_pylist(rows)
    whole = [pa.field(one.name, pa.int32()) if one.type == pa.int64() else one for one in table.schema]
    return table.cast(pa.schema(whole))


def _group(
    draw: random.Random, words: list[str], cases: list[str], number: int, group: int, size: int
) -> Iterator[dict[str, Any]]:
    case, gold = draw.randrange(len(cases)), draw.choice(words)
    for sample in range(size):
        correct = draw.random() < 0.4
        answer = gold if correct else draw.choice(words[:5])
        text = " ".join(draw.choices(words, k=LONG))
        yield {
            "round": number,
            "group": group,
            "case_id": f"case-{case}",
            "sample": sample,
            "prompt": f"<|user|>\n{cases[case]}\n<|assistant|>\n",
            "question": cases[case],
            "facts": draw.sample(words, 6),
            "completion": f"<reasoning>{text}</reasoning><answer>{answer}</answer>",
            "finish": draw.choice(["stop"] * 9 + ["length"]),
            "length": draw.randrange(20, 400),
            "rewards/accuracy": float(correct),
            "rewards/format": 1.0,
            "reward": float(correct) + 0.2,
            "advantage": draw.gauss(0, 1),
            "answer": answer,
            "given": answer,
            "gold": gold,
            "correct": correct,
            "defects": draw.choice([[], [], [], ["answer_missing"]]),
            "notes": "{}",
            "extras": "{}",
        }


class Served:
    """A running `grandrounds view`."""

    def __init__(self, process: subprocess.Popen[str], address: str) -> None:
        self.address, self._process = address, psutil.Process(process.pid)

    def ask(self, path: str) -> tuple[float, float]:
        """Seconds by the clock, and of the server's processor, until an answer is there."""
        before, started = self._processor(), time.perf_counter()
        with urllib.request.urlopen(self.address + path, timeout=600) as got:
            got.read()
        return time.perf_counter() - started, self._processor() - before

    def _processor(self) -> float:
        used = self._process.cpu_times()
        return float(used.user + used.system)


@contextmanager
def served(run: Path) -> Iterator[tuple[Served, tuple[float, float]]]:
    """A fresh server of the run, and the seconds until it said its address."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "grandrounds", "view", str(run), "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().split()[0]
        one = Served(process, address)
        try:
            yield one, (time.perf_counter() - started, one._processor())
        finally:
            process.terminate()


def questions() -> Mapping[str, str]:
    """What is asked, in the order of a visit -> the path."""
    asked = {
        "open: the first answer with all completions counted": "api/runs",
        "curves": "api/runs/0/curves",
        "first page of the list": "api/runs/0/completions",
    }
    for name, one in FILTERS.items():
        if name != "all":
            asked[f"filter: {one.label.lower()}"] = f"api/runs/0/completions?filter={name}"
    asked["longest first, as completions, page 2,000"] = (
        "api/runs/0/completions?groups=false&order=longest&page=2000"
    )
    asked["search all texts"] = f"api/runs/0/completions?search={urllib.parse.quote(SEARCHED)}"
    asked["one group"] = "api/runs/0/groups/1/0"
    return asked


def in_a_browser(address: str) -> float | None:
    """Seconds from the address to the list on the screen; None where there is no browser to drive."""
    chromium = shutil.which("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return None
    if chromium is None:
        return None
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        begun = time.perf_counter()
        page.goto(f"{address}#/groups")
        page.wait_for_selector("table.list tbody tr")
        seconds = time.perf_counter() - begun
        browser.close()
    return seconds


def measure(run: Path, repeats: int) -> list[tuple[str, float, float | None]]:
    """(what, seconds by the clock, seconds of the processor), medians over fresh servers."""
    times: dict[str, list[tuple[float, float | None]]] = {}
    for _ in range(repeats):
        with served(run) as (server, start):
            times.setdefault("start of the command, up to its address", []).append(start)
            for what, path in questions().items():
                times.setdefault(what, []).append(server.ask(path))
        for what, folder in (("", run), (", of a run with one completion", run.parent / "one")):
            with served(folder) as (server, _):
                if (seconds := in_a_browser(server.address)) is not None:
                    times.setdefault(f"in a new Chromium, up to the list{what}", []).append((seconds, None))
    return [
        (
            what,
            statistics.median(clock for clock, _ in found),
            None if found[0][1] is None else statistics.median(used for _, used in found if used is not None),
        )
        for what, found in times.items()
    ]


def main() -> None:
    """Make the run, measure, print, and write the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (("rounds", 250), ("groups", 100), ("size", 8), ("repeats", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--trl", action="store_true", help="a run of TRL's")
    parser.add_argument("--json", type=Path, help="write the result here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run, make = Path(folder) / "run", make_trl_run if arguments.trl else make_run
        make(run, arguments.rounds, arguments.groups, arguments.size)
        total = arguments.rounds * arguments.groups * arguments.size
        make(run.parent / "one", 1, 1, 1)
        stored = sum(path.stat().st_size for path in run.rglob("*.parquet"))
        print(f"{total:,} completions, {stored / 1e6:,.0f} MB. {describe_machine()}")
        measured = measure(run, arguments.repeats)
    for what, clock, used in measured:
        print(f"{what:<64}{clock:8.2f} s{'' if used is None else f'{used:8.2f} s'}")
    if arguments.json:
        arguments.json.write_text(json.dumps(_result(arguments, total, stored, measured), indent=1) + "\n")


def _result(
    arguments: argparse.Namespace, total: int, stored: int, measured: list[tuple[str, float, float | None]]
) -> dict[str, Any]:
    processor, _, instructions = describe_machine().partition(" (")
    return {
        "commit": code_version(),
        "command": f"python benchmarks/viewing.py --rounds {arguments.rounds} --groups {arguments.groups} "
        f"--size {arguments.size} --repeats {arguments.repeats}{' --trl' if arguments.trl else ''}",
        "processor": processor,
        "instructions": instructions.rstrip(")"),
        "date": date.today().isoformat(),
        "transcribed": False,
        "note": f"{total:,} completions in {arguments.rounds} files, {stored / 1e6:,.0f} MB. Medians of "
        f"{arguments.repeats} fresh servers, one core that other processes used too.",
        "columns": ["", "seconds", "of the processor"],
        "rows": [
            [what, f"{clock:.2f}", "—" if used is None else f"{used:.2f}"] for what, clock, used in measured
        ],
    }


if __name__ == "__main__":
    main()
