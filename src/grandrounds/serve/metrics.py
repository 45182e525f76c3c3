"""Counters in Prometheus' text format. They count; they hold nothing of what was asked or answered."""

from __future__ import annotations

from collections import Counter

from grandrounds.serve.choice import Update


class Metrics:
    """Counts since the server started.

    Each field is changed by one thread alone: `requests` and `prompt_tokens` by the event loop, the others by the
    decoding thread.
    """

    def __init__(self) -> None:
        self.requests: Counter[int] = Counter()  # by status
        self.prompt_tokens = 0
        self.completion_tokens: Counter[str] = Counter()  # by model, as the next three
        self.completions: Counter[str] = Counter()
        self.repaired: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.cancelled = 0
        self.failed = 0

    def finished(self, model: str, update: Update) -> None:
        """Count a choice that has ended."""
        self.completions[model] += 1
        self.completion_tokens[model] += update.tokens
        self.repaired[model] += bool(update.repairs)
        self.refused[model] += update.refusal is not None

    def text(self, running: int, waiting: int) -> str:
        """The page that Prometheus reads."""
        lines = [
            *_metric(
                "requests_total", "counter", "Requests for completions, by status.", "status", self.requests
            ),
            *_metric("prompt_tokens_total", "counter", "Tokens of prompts.", "", {"": self.prompt_tokens}),
        ]
        for name, text in (
            ("completion_tokens", "Tokens of completions."),
            ("completions", "Completions that ended."),
            ("repaired", "Completions that were brought back to their form."),
            ("refused", "Completions that did not keep their form and were not given."),
        ):
            lines += _metric(f"{name}_total", "counter", text, "model", getattr(self, name))
        for name, kind, text, value in (
            ("cancelled_total", "counter", "Requests whose sender went away.", self.cancelled),
            ("failed_total", "counter", "Requests that ended because a model raised.", self.failed),
            ("rows", "gauge", "Completions of requests that are being decoded.", running),
            ("waiting", "gauge", "Requests that wait.", waiting),
        ):
            lines += _metric(name, kind, text, "", {"": value})
        return "\n".join(lines) + "\n"


def _metric(name: str, kind: str, text: str, label: str, values: Counter | dict) -> list[str]:
    lines = [f"# HELP grandrounds_{name} {text}", f"# TYPE grandrounds_{name} {kind}"]
    for key, value in sorted(values.items()):
        escaped = str(key).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        labels = f'{{{label}="{escaped}"}}' if label else ""
        lines.append(f"grandrounds_{name}{labels} {value}")
    return lines
