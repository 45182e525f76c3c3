"""What a field of use brings along: formats and sources of cases, words, rewards, recipes; and who has registered
one.

Our own domains are the folders of `grandrounds.domains`; any of them may be deleted. Others register entry points:

    [project.entry-points."grandrounds.domains"]
    contracts = "our_package.contracts:DOMAIN"
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module, metadata
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import Annotated, Any, Literal

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
        description="A file (JSONL, JSON, CSV, Parquet, each also .gz; Excel), a folder of such files, a Hub dataset, "
        "or a domain's own: `clinic`.",
    )
    mix: dict[str, Annotated[float, Field(gt=0, lt=1)]] = Field(
        {},
        description="Further sources -> the share of the training draws that each gets; `source` gets the rest.",
    )
    columns: dict[str, str] = Field({}, description="Our column name -> the source's, where they differ.")
    test_source: str | None = Field(
        None, description="A separate source of test cases; the default splits `source`."
    )
    test_fraction: Fraction = Field(
        0.15,
        description="Share of groups (patients, PMIDs) held out for testing; none where there is a `test_source`.",
    )
    validation_fraction: Fraction = Field(
        0.0,
        description="Share of the training groups set aside for the evaluations while training, which choose the best "
        "policy; 0: the test cases choose it.",
    )
    limit: Positive | None = Field(None, description="Read at most this many cases.")
    encoding: str | None = Field(
        None, description="Of text files, such as cp1252; default: found out, and said."
    )
    bad_rows: Literal["error", "skip"] = Field(
        "error", description="Rows that are no case: list them all and stop, or leave them out."
    )
    balance: Literal["none", "label"] = Field(
        "none",
        description="`label`: draw training cases so that knowing how frequent answers are pays nothing.",
    )
    demonstrations: Literal["full", "brief"] = Field(
        "full",
        description="What the warm-up learns from. `full`: the source's own demonstrations. `brief`: two lines made "
        "from each, or from a case's facts and gold answer where there is none.",
    )
    too_long: Literal["skip", "error"] = Field(
        "skip",
        description="Cases whose prompt and longest completion exceed the model's context: leave them out, or stop.",
    )


@dataclass(frozen=True)
class Format:
    """A format of files with cases.

    columns: the sets of columns that it is recognised by. known: further columns that it reads.
    fits: whether rows with these columns are of this format, where the columns alone do not tell.
    case: the `Fields` of a row -> a case, or several. choose: all rows and the mapping of columns -> `case`, where it
        depends on them.
    book: instead of `case`, for cases that are built and split together: (rows, recipe, seed, `fitted` or None) ->
        the book. tested_on: (book, rows, source) -> the book with another file's cases for testing.
    """

    columns: tuple[frozenset[str], ...]
    case: Callable[[Any], Case | Sequence[Case]] | None = None
    known: tuple[str, ...] = ()
    fits: Callable[[Sequence[Mapping[str, Any]]], bool] | None = None
    choose: Callable[[Sequence[Any], Mapping[str, str]], Callable[[Any], Case]] | None = None
    book: Callable[[Sequence[Any], Any, int, Mapping[str, Any] | None], CaseBook] | None = None
    tested_on: Callable[[CaseBook, Sequence[Any], str], CaseBook] | None = None


@dataclass(frozen=True)
class Source:
    """A source that makes its cases rather than reading them.

    book: (recipe, seed, `fitted` of a book made before or None) -> the book. notice: what must be said beside
    results.
    """

    book: Callable[[Any, int, Mapping[str, Any] | None], CaseBook]
    notice: str = ""


@dataclass(frozen=True)
class Trick:
    """An answer that must not pay. allowed: what it shows where it pays all the same, as nobody can tell it from a
    right one; "" where that is an error."""

    name: str
    answer: str
    allowed: str = ""


@dataclass(frozen=True)
class Solution:
    """A right answer to a case, as a response gives it, and answers that only look right, to try rewards with."""

    answer: str
    tricks: tuple[Trick, ...] = ()


@dataclass(frozen=True)
class Domain:
    """A field of use.

    formats: name -> format, in the order of recognition. sources: name -> source; `name:SET` names one of its held-out
        sets. keys: further keys of the recipe's section `cases`.
    abbreviations: "MI" -> "myocardial infarction", for comparing answers. synonyms: "myocardial infarction" -> its
        other names, ("heart attack",): each means the same wherever it stands. matchers: kind of gold answer -> the
        function that judges an answer, for kinds that the core does not know.
    rewards: name -> function that makes a scorer from a `RewardContext` and options; a scorer with a method `scores`
        gets whole groups, while others are sampled. recipes: a folder of YAML files. solution: of a case without gold
        answer, which its rewards judge otherwise; None where the case is not of this domain or brings none.
    shortcuts: baseline of what its books know -> what it answers, in a few words, for whoever reads results.
    called: further names of the field, for `grandrounds init --domain`. starts_with: its rewards that a new recipe
        begins with -> their weight; one of weight 1 stands in the place of `accuracy`. needs: of the machine, for
        `grandrounds doctor`: says what is there; GrandRoundsError where something is missing.

    The module that holds a domain is loaded with the first recipe. So it imports only this module at the top level, and
    everything else inside its functions. What a domain knows about candidates and findings comes with the books of its
    formats and sources.
    """

    name: str
    formats: Mapping[str, Format] = field(default_factory=dict)
    sources: Mapping[str, Source] = field(default_factory=dict)
    keys: type[Section] = Section
    abbreviations: Mapping[str, str] = field(default_factory=dict)
    synonyms: Mapping[str, Sequence[str]] = field(default_factory=dict)
    matchers: Mapping[str, Callable[[str, Case], Verdict]] = field(default_factory=dict)
    rewards: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    recipes: Path | None = None
    solution: Callable[[Case], Solution | None] | None = None
    shortcuts: Mapping[str, str] = field(default_factory=dict)
    called: tuple[str, ...] = ()
    starts_with: Mapping[str, float] = field(default_factory=dict)
    needs: Callable[[], str] | None = None


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
                hint="Repair or uninstall the package that defines it.",
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
                f"two domains define `{name}`", where=part, hint="Uninstall the package of one of them."
            )
        seen.add(name)


def columns(*sets: str) -> tuple[frozenset[str], ...]:
    """Sets of columns, each written as names with spaces between them."""
    return tuple(frozenset(names.split()) for names in sets)


def lazily(package: str, place: str) -> Callable[..., Any]:
    """ "module:function" of a domain's package, imported when it is first called: reading a recipe needs none of it."""
    module, _, name = place.partition(":")

    def call(*arguments: Any) -> Any:
        return getattr(import_module(f"{package}.{module}"), name)(*arguments)

    return call


def every(part: str) -> dict[str, Any]:
    """The formats, sources, matchers, rewards or shortcuts of all domains, by name."""
    return {name: value for domain in domains() for name, value in getattr(domain, part).items()}


def sections_of_cases() -> list[type[Section]]:
    """The keys that domains add to the recipe's section `cases`."""
    return [domain.keys for domain in domains() if domain.keys is not Section]


@cache
def abbreviations() -> dict[str, str]:
    """The abbreviations of all domains. One with different meanings in two domains is left out."""
    return _unambiguous(pair for domain in domains() for pair in domain.abbreviations.items())


@cache
def synonyms() -> dict[str, str]:
    """Other name -> name, of all domains. One that two things have is left out."""
    return _unambiguous(
        (other, name) for domain in domains() for name, others in domain.synonyms.items() for other in others
    )


def _unambiguous(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The pairs as a mapping, without those first texts that stand beside different second ones."""
    meanings: dict[str, set[str]] = {}
    for text, meaning in pairs:
        meanings.setdefault(text, set()).add(meaning)
    return {text: found.pop() for text, found in meanings.items() if len(found) == 1}
