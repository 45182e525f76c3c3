"""Throughput of `grandrounds serve`: one client at a time, and many at once, by OpenAI's own client.

    python benchmarks/serving.py runs/demo/reasoning --cases clinic
    python benchmarks/serving.py runs/demo/reasoning --cases clinic --clients 1 8 32 --json result.json

Server and clients share the machine. Each number of clients asks the same questions with the same seeds, so that all
get the same tokens; each number after the first is checked for that.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from openai import AsyncOpenAI

from bench.machine import describe_machine
from bench.record import record
from grandrounds.training.target import open_target

COLUMNS = (
    "clients",
    "tokens/s",
    "beside one",
    "tokens per second of the server's processor time",
    "beside one",
    "first text, s (median)",
    "whole, s (median)",
    "whole, s (95 %)",
    "cores that server and clients got",
    "answers that differ",
)
NOTE = (
    "Where server and clients got less than the cores that are there, other processes took the rest. "
    "Answers that differ: from those that a single client got."
)
READY = re.compile(r"(http://\S+/)v1")


@dataclass(frozen=True)
class Asked:
    """One request: when its first and its last piece came, in seconds; its tokens, and its text."""

    first: float
    whole: float
    tokens: int
    text: str


async def ask(client: AsyncOpenAI, model: str, question: str, seed: int, most: int | None) -> Asked:
    """Stream one answer."""
    started, first, text, tokens = time.perf_counter(), 0.0, [], 0
    more: dict[str, Any] = {} if most is None else {"max_tokens": most}
    stream = await client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": question}],
        seed=seed,
        stream=True,
        stream_options={"include_usage": True},
        **more,
    )
    async for chunk in stream:
        for choice in chunk.choices:
            new = (getattr(choice.delta, "reasoning", "") or "") + (choice.delta.content or "")
            first = first or (time.perf_counter() - started if new else 0.0)
            text.append(new)
        tokens = chunk.usage.completion_tokens if chunk.usage else tokens
    return Asked(first, time.perf_counter() - started, tokens, "".join(text))


async def measure(base: str, model: str, questions: list[str], clients: int, most: int | None) -> list[Asked]:
    """So many clients, each asking its next question once its last is answered."""
    waiting = list(enumerate(questions))[::-1]
    answers: dict[int, Asked] = {}

    async def one_client() -> None:
        async with AsyncOpenAI(base_url=f"{base}v1", api_key="none", max_retries=0, timeout=3600) as client:
            while waiting:
                number, question = waiting.pop()
                answers[number] = await ask(client, model, question, number, most)

    await asyncio.gather(*(one_client() for _ in range(clients)))
    return [answers[number] for number in range(len(questions))]


@dataclass(frozen=True)
class Measured:
    """What so many clients got. seconds, server, ours: on the clock, and of the processor's time."""

    clients: int
    answers: list[Asked]
    seconds: float
    server: float
    ours: float

    @property
    def rates(self) -> tuple[float, float]:
        """(tokens per second on the clock, tokens per second of the server's processor time)."""
        tokens = sum(answer.tokens for answer in self.answers)
        return tokens / self.seconds, tokens / self.server

    def row(self, first: Measured) -> list[str]:
        """A row of the table. first: what is compared with."""
        whole = sorted(answer.whole for answer in self.answers)
        pairs = zip(self.answers, first.answers, strict=True)
        compared = [
            (f"{own:.0f}", f"{own / base:.1f}x") for own, base in zip(self.rates, first.rates, strict=True)
        ]
        return [
            str(self.clients),
            *chain.from_iterable(compared),
            f"{median(answer.first for answer in self.answers):.3f}",
            f"{median(whole):.2f}",
            f"{whole[int(0.95 * (len(whole) - 1))]:.2f}",
            f"{(self.server + self.ours) / self.seconds:.2f}",
            str(sum(own.text != other.text for own, other in pairs)),
        ]


def measured(
    base: str, server: psutil.Process, questions: list[str], clients: int, most: int | None
) -> Measured:
    """Ask all questions by so many clients."""

    def processor() -> float:
        times = server.cpu_times()
        return float(times.user + times.system)

    before, ours, started = processor(), time.process_time(), time.perf_counter()
    answers = asyncio.run(measure(base, "served", questions, clients, most))
    took = time.perf_counter() - started
    return Measured(clients, answers, took, processor() - before, time.process_time() - ours)


def main() -> None:
    """Start a server, measure, print a row for each number of clients, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("policy", help="a run, a checkpoint, a model folder or a GGUF file")
    parser.add_argument("--cases", default="clinic", help="whose questions are asked")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--max-tokens", type=int)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    target = open_target(f"served={arguments.policy}", [])
    _, cases = target.cases(arguments.cases, "auto")
    questions = [_question(case) for case in cases[: arguments.requests]]
    print(describe_machine())
    command = [sys.executable, "-m", "grandrounds", "serve", f"served={arguments.policy}", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            base = next(found[1] for line in server.stdout or () if (found := READY.search(line)))
            process = psutil.Process(server.pid)
            measured(base, process, questions[:2], 1, arguments.max_tokens)  # warm up
            rows: list[list[str]] = []
            first: Measured | None = None
            for clients in arguments.clients:
                one = measured(base, process, questions, clients, arguments.max_tokens)
                first = first or one
                rows.append(one.row(first))
                print(rows[-1], flush=True)
        finally:
            server.terminate()
    if arguments.json:
        record(arguments.json, COLUMNS, rows, NOTE)


def _question(case: Any) -> str:
    """The case as its user message."""
    from grandrounds.cases.ask import ask as messages_of
    from grandrounds.recipe import PromptRecipe

    return messages_of(case, PromptRecipe(system=""))[-1].content


if __name__ == "__main__":
    main()
