"""The command `doctor`."""

from __future__ import annotations

import sys
from dataclasses import asdict

from grandrounds.cli.as_json import print_json


def show_doctor(as_json: bool) -> None:
    """Print the results of all checks. Exits with 1 where one is bad."""
    from rich.console import Console
    from rich.text import Text

    from grandrounds.doctor import diagnose

    marks = {"ok": ("ok  ", "green"), "warn": ("warn", "yellow"), "bad": ("bad ", "bold red")}
    console = Console(highlight=False)
    findings = diagnose()
    if as_json:
        print_json([asdict(finding) for finding in findings])
    for finding in () if as_json else findings:
        console.print(Text.assemble(marks[finding.level], " ", (finding.name, "bold"), f": {finding.what}"))
        if finding.hint:
            console.print(Text(f"     {finding.hint}", style="dim"))
    if any(finding.level == "bad" for finding in findings):
        sys.exit(1)
