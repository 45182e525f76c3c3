"""What holds for the tests themselves."""

from __future__ import annotations

import ast
from pathlib import Path


def test_marks_stand_on_tests() -> None:
    """On a helper a mark does nothing: its test would run where it should be skipped."""
    displaced = [
        f"{path.name}: {node.name}"
        for path in sorted(Path(__file__).parent.glob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("test_")
        for decorator in node.decorator_list
        if any(word in ast.unparse(decorator) for word in ("mark.", "published"))
    ]
    assert displaced == []
