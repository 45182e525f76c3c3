"""What a domain (a field of use) adds: formats and sources of cases, abbreviations, rewards, recipes; and which are
registered.

Our own domains are the folders of `grandrounds.domains`; any of them may be deleted. Others register entry points:

    [project.entry-points."grandrounds.domains"]
    law = "our_package.law:DOMAIN"
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module, metadata
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from grandrounds.errors import RecipeError
from grandrounds.loading import describe
from grandrounds.types import Case, CaseBook, Verdict

GROUP = "grandrounds.domains"
Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]


class Section(BaseModel):
    """A section of the recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)


class CasesSection(Section):
    """The recipe's section `cases`: the keys that every source has."""

    source: str = Field(
        "clinic",
        description="A file (JSONL, JSON, CSV, Parquet, each also .gz), a Hub dataset, or a domain's own: `clinic`.",
    )
    columns: dict[str, str] = Field({}, description="Our column name -> the source's, where they differ.")
    test_source: str | None = Field(
        None, description="A separate source of test cases; the default splits `source`."
    )
    test_fraction: Fraction = Field(
        0.15, description="Share of groups (patients, PMIDs) held out for testing."
    )
    limit: Positive | None = Field(None, description="Read at most this many cases.")


@dataclass(frozen=True)
class Format:
    """A format of files with cases.

    columns: sets of columns; a file with all columns of one set has this format. known: further columns that it reads.
    case: makes a case of the `Fields` of a row. choose: makes `case` from all rows and the mapping of columns, where it
        depends on them.
    book: in place of `case`, for cases that are built and split together: (rows, recipe, seed, `fitted` or None) ->
        the book. tested_on: (book, rows, source) -> the book with another file's cases for testing.
    """

    columns: tuple[frozenset[str], ...]
    case: Callable[[Any], Case] | None = None
    known: tuple[str, ...] = ()
    choose: Callable[[Sequence[Any], Mapping[str, str]], Callable[[Any], Case]] | None = None
    book: Callable[[Sequence[Any], Any, int, Mapping[str, Any] | None], CaseBook] | None = None
    tested_on: Callable[[CaseBook, Sequence[Any], str], CaseBook] | None = None


@dataclass(frozen=True)
class Source:
    """A source that makes its cases rather than reading them.

    book: (recipe, seed, `fitted` of an earlier book or None) -> the book. notice: must be shown beside results.
    """

    book: Callable[[Any, int, Mapping[str, Any] | None], CaseBook]
    notice: str = ""


@dataclass(frozen=True)
class Domain:
    """A field of use.

    formats: name -> format, in the order of recognition. sources: name -> source; `name:SET` names one of its held-out
        sets. keys: further keys of the recipe's section `cases`.
    abbreviations: "MI" -> "myocardial infarction", for comparing answers. matchers: kind of gold answer -> the function
        that judges an answer, for kinds that the core does not know.
    rewards: name -> function that makes a scorer from a `RewardContext` and options. recipes: a folder of YAML files.

    The module that holds a domain is loaded with the first recipe. So it imports only this module at the top level, and
    everything else inside its functions. What a domain knows about candidates and findings comes with the books of its
    formats and sources.
    """

    name: str
    formats: Mapping[str, Format] = field(default_factory=dict)
    sources: Mapping[str, Source] = field(default_factory=dict)
    keys: type[Section] = Section
    abbreviations: Mapping[str, str] = field(default_factory=dict)
    matchers: Mapping[str, Callable[[str, Case], Verdict]] = field(default_factory=dict)
    rewards: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    recipes: Path | None = None


@cache
def domains() -> tuple[Domain, ...]:
    """All registered domains, ours first. RecipeError for an entry point without one, or for a name used twice."""
    found = [module.DOMAIN for module in _own()]
    for point in metadata.entry_points(group=GROUP):
        try:
            domain = point.load()
        except Exception as error:
            raise RecipeError(
                f"the domain `{point.name}` cannot be loaded: {describe(error)}",
                where=f"entry point {point.value}",
                hint="Repair or uninstall the package that brings it.",
            ) from error
        if not isinstance(domain, Domain):
            raise RecipeError(
                f"the domain `{point.name}` is no Domain but {type(domain).__name__}",
                where=f"entry point {point.value}",
                hint="Point it at a grandrounds.domain.Domain.",
            )
        found.append(domain)
    for part in ("formats", "sources", "matchers", "rewards"):
        _require_distinct(part, (name for domain in found for name in getattr(domain, part)))
    _require_distinct(
        "keys",
        (
            name
            for domain in found
            for name in domain.keys.model_fields
            if name not in CasesSection.model_fields
        ),
    )
    return tuple(found)


def _own() -> Iterable[ModuleType]:
    folder = Path(__file__).parent / "domains"
    return [import_module(f"{GROUP}.{module.name}") for module in iter_modules([str(folder)])]


def _require_distinct(part: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise RecipeError(
                f"two domains bring `{name}`", where=part, hint="Uninstall the package of one of them."
            )
        seen.add(name)


def every(part: str) -> dict[str, Any]:
    """The formats, sources, matchers or rewards of all domains, by name."""
    return {name: value for domain in domains() for name, value in getattr(domain, part).items()}


def sections_of_cases() -> list[type[Section]]:
    """The keys that domains add to the recipe's section `cases`."""
    return [domain.keys for domain in domains() if domain.keys is not Section]


@cache
def abbreviations() -> dict[str, str]:
    """The abbreviations of all domains. One with different meanings in two domains is left out."""
    meanings: dict[str, set[str]] = {}
    for domain in domains():
        for short, long in domain.abbreviations.items():
            meanings.setdefault(short, set()).add(long)
    return {short: longs.pop() for short, longs in meanings.items() if len(longs) == 1}
