"""The direction of imports: down the list of rooms, in no circle, and without torch where none is needed."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"

# From the top: a room imports from its own line and from those below.
LAYERS = (
    ("cli", "doctor", "view", "__main__"),
    ("serve",),
    ("trl",),
    ("domains",),
    ("api", "reporting"),
    ("evaluating", "report", "new_recipe"),
    ("exporting",),
    ("training",),
    ("tracking",),
    ("planning",),
    ("evaluation",),
    ("algorithm",),
    ("sampling",),
    ("rewards",),
    ("policy",),
    ("kernels",),
    ("cases",),
    ("behaviour",),
    ("recipe", "recipe_file", "recipe_guard", "recipe_help", "recipe_switches", "recipes"),
    ("domain",),
    ("types",),
    ("response", "loading", "machine", "hub", "web"),
    ("errors", "shares", "_version"),
)
HEIGHT = {room: -number for number, rooms in enumerate(LAYERS) for room in rooms}

WITHOUT_TORCH = (
    "types",
    "cases",
    "behaviour",
    "response",
    "rewards",
    "report",
    "domain",
    "domains",
    "recipe",
    "recipe_file",
    "recipe_guard",
    "recipe_help",
    "recipe_switches",
    "cli",
    "view",
    "web",
)
HEAVY = ("torch", "transformers", "peft", "datasets", "accelerate")


Modules = dict[str, Path]  # by name: "grandrounds.types"


@cache
def modules_below(source: Path) -> Modules:
    """Every module of the package; a package goes by its __init__."""

    def name_of(path: Path) -> str:
        parts = path.relative_to(source).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    return {name_of(path): path for path in sorted((source / "grandrounds").rglob("*.py"))}


def room_of(module: str) -> str:
    """ "cases" of "grandrounds.types"; "" for the package itself."""
    return module.split(".")[1] if "." in module else ""


def imported_names(node: ast.AST, module: str, path: Path) -> list[str]:
    """What one statement imports: modules, and for `from` the names in them, which may be modules too."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        if node.level:
            package = module if path.name == "__init__.py" else module.rpartition(".")[0]
            start = package.split(".")[: len(package.split(".")) - node.level + 1]
            source = ".".join([*start, *([node.module] if node.module else [])])
        else:
            source = node.module or ""
        return [source, *(f"{source}.{alias.name}" for alias in node.names)]
    return []


def outside_functions(tree: ast.AST, *, types: bool) -> list[ast.AST]:
    """Every node outside functions: what runs on import, and with `types` what is under TYPE_CHECKING too."""
    found: list[ast.AST] = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if not types and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        found += [node, *outside_functions(node, types=types)]
    return found


@cache
def imports(module: str, path: Path, kind: str) -> frozenset[str]:
    """What a module imports. kind: "running", on import; "types", under TYPE_CHECKING too; "all", in functions too."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = list(ast.walk(tree)) if kind == "all" else outside_functions(tree, types=kind == "types")
    return frozenset(name for node in nodes for name in imported_names(node, module, path))


def wrong_rooms(modules: Modules) -> list[str]:
    """Rooms without a layer, and layers' rooms that are not there."""
    rooms = {room_of(module) for module in modules} - {""}
    return sorted(rooms ^ HEIGHT.keys())


def upward_imports(modules: Modules) -> list[str]:
    return [
        f"{module} imports {name}"
        for module, path in modules.items()
        if room_of(module)
        for name in imports(module, path, "all") & modules.keys()
        if room_of(name) and HEIGHT.get(room_of(name), 0) > HEIGHT.get(room_of(module), 0)
    ]


def root_imports(modules: Modules) -> list[str]:
    """Imports of what the package's root gathers: of `grandrounds.train`, say, which is no module."""
    return [
        f"{module} imports {name}"
        for module, path in modules.items()
        if room_of(module) not in ("", "__main__")
        for name in imports(module, path, "all")
        if name.startswith("grandrounds.") and name.count(".") == 1 and name not in modules
    ]


def circle(modules: Modules) -> list[str]:
    """Modules that import each other in a ring, for type checkers only too; empty where there is none."""
    # A package's own __init__ gathers names from below it; that is no circle.
    graph = {
        module: {
            name
            for name in imports(module, path, "types") & modules.keys()
            if not module.startswith(f"{name}.") and name != module
        }
        for module, path in modules.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def heavy_chains(
    modules: Modules, module: str, above: tuple[str, ...], seen: set[str]
) -> list[tuple[str, ...]]:
    """Ways in which importing this module imports a heavy library."""
    if module in seen:
        return []
    seen.add(module)
    chain, names = (*above, module), imports(module, modules[module], "running")
    found = [(*chain, name) for name in sorted(names) if name in HEAVY]
    packages = {module.rsplit(".", up)[0] for up in range(1, module.count(".") + 1)}
    for name in sorted((names & modules.keys()) | packages):
        found += heavy_chains(modules, name, chain, seen)
    return found


MODULES = modules_below(SOURCE)


def test_every_room_has_its_place_and_every_place_its_room() -> None:
    assert wrong_rooms(MODULES) == []


def test_imports_point_down_only() -> None:
    upward = [*upward_imports(MODULES), *root_imports(MODULES)]
    assert not upward, "\n".join(upward)


def test_no_circle_of_imports() -> None:
    ring = circle(MODULES)
    assert not ring, " -> ".join(ring)


@pytest.mark.parametrize("room", WITHOUT_TORCH)
def test_room_imports_without_torch(room: str) -> None:
    heavy = [
        " -> ".join(chain)
        for module in MODULES
        if room_of(module) == room
        for chain in heavy_chains(MODULES, module, (), set())
    ]
    assert not heavy, "\n".join(heavy)


PLANTED = {
    "upward": (upward_imports, "errors.py", "import grandrounds.cli.app"),
    "upward, in a function": (upward_imports, "errors.py", "def f():\n    from grandrounds import api"),
    "the root": (root_imports, "errors.py", "def f():\n    from grandrounds import train"),
    "upward, to the room above": (
        upward_imports,
        "response/grammar.py",
        "from grandrounds.cases import load",
    ),
    "a domain": (upward_imports, "cases/load.py", "from grandrounds.domains.clinic import NOTICE"),
    "circle": (circle, "sampling/noise.py", "from grandrounds.sampling import native"),
    "circle for type checkers": (
        circle,
        "kernels/shared_prefix/tree.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import grandrounds.kernels.shared_prefix.sequences",
    ),
    "room without a layer": (wrong_rooms, "attic/__init__.py", ""),
}


@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_violation_is_found(kind: str, tmp_path: Path) -> None:
    find, place, code = PLANTED[kind]
    package = tmp_path / "grandrounds"
    shutil.copytree(SOURCE / "grandrounds", package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / place).parent.mkdir(exist_ok=True)
    with (package / place).open("a", encoding="utf-8") as file:
        file.write(f"\n{code}\n")
    assert find(modules_below(tmp_path))


def test_a_layer_without_a_room_is_found() -> None:
    doctor = {name: path for name, path in MODULES.items() if room_of(name) != "doctor"}
    assert wrong_rooms(doctor) == ["doctor"]


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
