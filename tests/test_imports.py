"""The direction of imports: down the list of rooms, in no circle, and without torch where none is needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"

# From the top: a room imports from its own line and from those below.
LAYERS = (
    ("cli", "serving", "doctor", "__main__"),
    ("api", "report"),
    ("training",),
    ("planning",),
    ("evaluation",),
    ("grpo",),
    ("sampling",),
    ("rewards",),
    ("policy",),
    ("cases", "response"),
    ("recipe", "recipe_file", "recipe_help", "recipes"),
    ("errors",),
)
HEIGHT = {room: -number for number, rooms in enumerate(LAYERS) for room in rooms}

WITHOUT_TORCH = ("cases", "response", "rewards", "report", "recipe", "recipe_file", "recipe_help", "cli")
HEAVY = ("torch", "transformers", "peft", "datasets", "accelerate")


def name_of(path: Path) -> str:
    """ "grandrounds.cases.case" of the module in this file; a package's name for its __init__."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted((SOURCE / "grandrounds").rglob("*.py"))}


def room_of(module: str) -> str:
    """ "cases" of "grandrounds.cases.case"; "" for the package itself."""
    return module.split(".")[1] if "." in module else ""


def imported_names(node: ast.AST, module: str) -> list[str]:
    """What one statement imports: modules, and for `from` the names in them, which may be modules too."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        if node.level:
            package = module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]
            start = package.split(".")[: len(package.split(".")) - node.level + 1]
            source = ".".join([*start, *([node.module] if node.module else [])])
        else:
            source = node.module or ""
        return [source, *(f"{source}.{alias.name}" for alias in node.names)]
    return []


def at_import_time(tree: ast.AST) -> list[ast.AST]:
    """Every node that runs when the module is imported: not in functions, not under TYPE_CHECKING."""
    found: list[ast.AST] = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        found += [node, *at_import_time(node)]
    return found


@cache
def imports(module: str, *, lazy: bool) -> frozenset[str]:
    """All that a module imports; with `lazy`, in functions and for type checkers too."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    nodes = ast.walk(tree) if lazy else at_import_time(tree)
    return frozenset(name for node in nodes for name in imported_names(node, module))


def own(names: frozenset[str]) -> set[str]:
    """Those of the names that are modules of this package."""
    return {name for name in names if name in MODULES}


def test_every_room_has_its_place() -> None:
    rooms = {room_of(module) for module in MODULES} - {""}
    assert rooms <= HEIGHT.keys(), f"rooms without a layer: {sorted(rooms - HEIGHT.keys())}"


def test_imports_point_down_only() -> None:
    upward = [
        f"{module} imports {name}"
        for module in MODULES
        if room_of(module)
        for name in own(imports(module, lazy=True))
        if room_of(name) and HEIGHT.get(room_of(name), 0) > HEIGHT.get(room_of(module), 0)
    ]
    assert not upward, "\n".join(upward)


def test_no_circle_of_imports() -> None:
    # A package's own __init__ gathers names from below it; that is no circle.
    graph = {
        module: {name for name in own(imports(module, lazy=False)) if not module.startswith(f"{name}.")}
        - {module}
        for module in MODULES
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("room", WITHOUT_TORCH)
def test_room_imports_without_torch(room: str) -> None:
    heavy = [
        " -> ".join(chain)
        for module in MODULES
        if room_of(module) == room
        for chain in heavy_chains(module, (), set())
    ]
    assert not heavy, "\n".join(heavy)


def heavy_chains(module: str, above: tuple[str, ...], seen: set[str]) -> list[tuple[str, ...]]:
    """Ways in which importing this module imports a heavy library."""
    if module in seen:
        return []
    seen.add(module)
    chain, names = (*above, module), imports(module, lazy=False)
    found = [(*chain, name) for name in sorted(names) if name in HEAVY]
    packages = {module.rsplit(".", up)[0] for up in range(1, module.count(".") + 1)}
    for name in sorted(own(names) | packages):
        found += heavy_chains(name, chain, seen)
    return found


def test_light_modules_really_load_no_torch() -> None:
    modules = [
        module for module in MODULES if room_of(module) in WITHOUT_TORCH and not module.endswith("__main__")
    ]
    program = (
        f"import sys, importlib\n"
        f"for module in {modules!r}:\n"
        f"    importlib.import_module(module)\n"
        f"print(sorted(set({HEAVY!r}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
