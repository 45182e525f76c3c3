"""The package as it is delivered: versions, data files, licence, and no address of any package index."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib import metadata, resources
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import grandrounds

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def constraints() -> dict[str, str]:
    """Name -> version of constraints.txt; anything but `name==version` is a failure."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", pin) for pin in pins)
    return dict(pin.split("==") for pin in pins)


def declared() -> list[Requirement]:
    """Direct dependencies, those of every extra included."""
    extras = PROJECT["optional-dependencies"].values()
    return [Requirement(text) for text in [*PROJECT["dependencies"], *(r for extra in extras for r in extra)]]


def test_version_is_the_installed_one() -> None:
    assert metadata.version("grandrounds") == grandrounds.__version__


def test_citation_and_changelog_know_the_version() -> None:
    assert f"version: {grandrounds.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"## {grandrounds.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("requirement", declared(), ids=str)
def test_tested_version_satisfies_the_requirement(requirement: Requirement) -> None:
    assert requirement.specifier.contains(constraints()[canonicalize_name(requirement.name)])


def test_every_indirect_dependency_has_a_tested_version() -> None:
    pinned, missing = constraints(), set()
    waiting = [(canonicalize_name(requirement.name), requirement.extras) for requirement in declared()]
    seen = set()
    while waiting:
        name, extras = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        # What a build of torch brings along (CUDA libraries) torch itself pins.
        if name == "triton" or name.startswith(("nvidia-", "cuda-")):
            continue
        missing |= {name} - pinned.keys()
        try:
            needs = [Requirement(text) for text in metadata.requires(name) or []]
        except metadata.PackageNotFoundError:
            continue
        for need in needs:
            chosen = [{"extra": extra} for extra in ("", *extras)]
            if need.marker is None or any(need.marker.evaluate(extra) for extra in chosen):
                waiting.append((canonicalize_name(need.name), need.extras))
    assert not missing


def test_data_files_are_part_of_the_package() -> None:
    package = resources.files(grandrounds)
    assert package.joinpath("py.typed").is_file()
    assert package.joinpath("domains", "clinic", "recipes", "clinic.yaml").is_file()
    assert package.joinpath("domains", "clinic", "knowledge.yaml").is_file()
    assert package.joinpath("domains", "medicine", "recipes", "medqa.yaml").is_file()
    assert package.joinpath("domains", "medicine", "names", "conditions.txt").is_file()
    assert package.joinpath("recipes", "own-data.yaml").is_file()


def test_licence_is_whole() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_install_names_no_package_index() -> None:
    files = ["pyproject.toml", "constraints.txt", "Makefile", "scripts/install.sh", ".ci/run"]
    options = re.compile(r"https?://|--[\w-]*(url|links|host)\b")
    assert not [file for file in files if options.search((ROOT / file).read_text(encoding="utf-8"))]


def test_module_runs_as_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "grandrounds", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == f"grandrounds {grandrounds.__version__}"
