"""GA4GH phenopackets (ISO 4454) as differential-diagnosis cases.

A case states the observed findings, age and sex, and asks for the diagnosis: in free text, or among the options that a
naive Bayes model, fitted on the training split, finds hardest to tell apart, and that are as often
wrong as their number of right cases asks for (`rivals`). Cases are split by publication.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from grandrounds.cases.formats.fields import LETTERS
from grandrounds.cases.read import Row
from grandrounds.cases.split import is_test, is_validation, keyed_unit
from grandrounds.domains.medicine import MedicineKeys
from grandrounds.domains.medicine.ages import age_band, age_text, days_of
from grandrounds.domains.medicine.bayes import NaiveBayes, Scores
from grandrounds.domains.medicine.differential import PhenopacketKnowledge, demonstrate
from grandrounds.domains.medicine.rivals import handicaps
from grandrounds.errors import CaseError, RecipeError
from grandrounds.types import PUBLICATION, TRAINED_ON, Answer, Case, CaseBook, Demonstration

# Shares of findings kept in a further view: of the diagnosis, and of a case drawn at random.
KEPT_IN_VIEWS, STRANGE_IN_VIEWS = 0.6, 0.3
# A further view's options are drawn from this many times as many of the hardest labels.
OPTION_POOL = 4
# Ways to choose a case's wrong options: see `_Builder.case`.
HARDEST, DRAWN, NEW = "hardest", "drawn", "new"
# The share of hurried demonstrations.
HURRIED = 0.5
_UNKNOWN_LABEL = "the diagnosis is not among the labels"
_NO_FINDING = "no observed finding"
_TRAINED_ON = "its publication is in the training cases"
_DUPLICATE = "same findings and diagnosis as a training case"


@dataclass(frozen=True)
class Packet:
    """The parts of a case. days: age in days, or None. label: the diagnosis, as asked for."""

    id: str
    label: str
    findings: tuple[str, ...]
    excluded: tuple[str, ...]
    sex: str
    days: int | None
    group: str
    columns: Mapping[str, Any]


def phenopacket_book(
    rows: Sequence[Row], recipe: MedicineKeys, seed: int, fitted: Mapping[str, Any] | None = None
) -> CaseBook:
    """Cases from a phenopacket file's rows. Raises CaseError where no cases are left.

    fitted: of an earlier book. Every case then becomes a test case, with that book's labels and hard options.
    """
    most = recipe.most_findings if fitted is None else fitted.get("most_findings", 0)
    packets, dropped = _read_packets(rows, recipe.source, most)
    if fitted is not None:
        return _book_like(fitted, recipe.source, packets, dropped, len(rows))
    if recipe.options == 1 or recipe.options > len(LETTERS):
        raise RecipeError(
            f"`cases.options` is {recipe.options}",
            where="cases.options",
            hint=f"Give 2 to {len(LETTERS)} options, or 0 for a free-text diagnosis.",
        )
    fraction = 0.0 if recipe.test_source else recipe.test_fraction
    held = {packet.id for packet in packets if is_test(seed, packet.group, fraction)}
    rest = [packet for packet in packets if packet.id not in held]
    aside = {packet.id for packet in rest if is_validation(seed, packet.group, recipe.validation_fraction)}
    strangers = [packet for packet in rest if packet.id not in aside]
    labels = _frequent(strangers, recipe, len(packets))
    kept = [packet for packet in packets if packet.label in labels]
    dropped[f"fewer than {recipe.min_train_cases} training cases of the diagnosis"] += len(packets) - len(
        kept
    )
    train = [packet for packet in strangers if packet.label in labels]
    watched = [packet for packet in kept if packet.id in aside]
    asked = [packet for packet in kept if packet.id in held]
    validation, test = _new(watched, train), _new(asked, [*train, *watched])
    dropped[_DUPLICATE] += len(kept) - len(train) - len(validation) - len(test)
    model = NaiveBayes.fit(sorted(labels), [(packet.label, packet.findings) for packet in train])
    matched = _matched(model, train, test, recipe.options)
    builder = _Builder(model, seed, recipe.options, recipe.excluded_findings, matched)
    ids = {packet.id for packet in train}
    state = {
        "format": "phenopackets",
        "seed": seed,
        "options": recipe.options,
        "excluded_findings": recipe.excluded_findings,
        "min_train_cases": recipe.min_train_cases,
        "most_findings": most,
        "groups": sorted({packet.group for packet in train}),
        "handicaps": {name: added.tolist() for name, added in matched.items()},
        "model": model.state(),
    }
    return CaseBook(
        train=[
            builder.case(view, demonstrated=True, rivals=HARDEST if view.id in ids else DRAWN)
            for view in _views(train, strangers, recipe, seed)
        ],
        validation=[builder.case(packet, rivals=NEW) for packet in validation],
        test=[builder.case(packet, rivals=NEW) for packet in test],
        knowledge=PhenopacketKnowledge(model),
        fitted=state,
        read=len(rows),
        dropped=+dropped,
    )


def _views(
    train: Sequence[Packet], strangers: Sequence[Packet], recipe: MedicineKeys, seed: int
) -> Iterator[Packet]:
    """Each training case as published, and `cases.views` - 1 further views of it.

    A further view mixes some of the case's findings with some of another case of the same diagnosis, preferably from
    another publication, and a few of a random case (the stranger), in another order. A small model that sees the same
    case again and again memorises it, and a model that can guess the next finding does not learn to copy it. The
    stranger's diagnosis may be too rare to be asked for: its findings are then rare too, like some of a new case's.
    """
    alike: dict[str, list[Packet]] = defaultdict(list)
    for packet in train:
        alike[packet.label].append(packet)
    for packet in train:
        yield packet
        partners = [other for other in alike[packet.label] if other.group != packet.group] or [packet]
        for number in range(1, recipe.views):
            name = f"{packet.id}~{number}"
            partner = partners[int(keyed_unit(seed, name, "partner") * len(partners))]
            stranger = strangers[int(keyed_unit(seed, name, "stranger") * len(strangers))]
            mixed = _mixed(packet, partner, stranger, name, seed)
            yield replace(mixed, findings=_first(mixed.findings, recipe.most_findings))


def _mixed(packet: Packet, partner: Packet, stranger: Packet, name: str, seed: int) -> Packet:
    shares = dict.fromkeys(stranger.findings, STRANGE_IN_VIEWS)
    shares |= dict.fromkeys(packet.findings + partner.findings, KEPT_IN_VIEWS)
    kept = [finding for finding, share in shares.items() if keyed_unit(seed, name, finding) < share]
    kept.sort(key=lambda finding: keyed_unit(seed, name, "place", finding))
    return replace(packet, id=name, findings=tuple(kept) or packet.findings[:1])


def tested_on(book: CaseBook, rows: Sequence[Row], source: str) -> CaseBook:
    """The book with another file's cases for testing, except those of publications that are trained on."""
    other = phenopacket_book(rows, MedicineKeys(source=source), 0, book.fitted)
    ids = {case.id for case in book.train}
    groups = {case.group for case in book.train}
    known = {(case.gold.text, frozenset(case.facts)) for case in book.train}
    new = [case for case in other.test if case.group not in groups and case.id not in ids]
    test = [case for case in new if (case.gold.text, frozenset(case.facts)) not in known]
    if not test:
        raise CaseError(
            f"no test cases are left: the publications of all {len(other.test)} are trained on",
            where=source,
            hint="Give cases.test_source of other publications.",
        )
    dropped = Counter({**book.dropped}) + Counter({**other.dropped})
    dropped += Counter({_TRAINED_ON: len(other.test) - len(new), _DUPLICATE: len(new) - len(test)})
    return replace(book, test=test, read=book.read + other.read, dropped=dropped)


def _frequent(train: Iterable[Packet], recipe: MedicineKeys, count: int) -> set[str]:
    """The labels with enough training cases. count: all cases with findings, for the message."""
    sizes = Counter(packet.label for packet in train)
    labels = {label for label, size in sizes.items() if size >= recipe.min_train_cases}
    if len(labels) < 2:
        raise CaseError(
            f"no cases are left: of the {len(sizes)} diagnoses of {count} cases, {len(labels)} have at least "
            f"{recipe.min_train_cases} training cases, and two such are needed",
            where="cases.min_train_cases",
            hint="Lower it, or read more cases.",
        )
    return labels


def _new(packets: Sequence[Packet], seen: Sequence[Packet]) -> list[Packet]:
    """Those that copy none of the seen ones."""
    known = {_content(packet) for packet in seen}
    return [packet for packet in packets if _content(packet) not in known]


def _content(packet: Packet) -> tuple[str, frozenset[str]]:
    return packet.label, frozenset(packet.findings)


def _book_like(
    fitted: Mapping[str, Any],
    source: str,
    packets: Sequence[Packet],
    dropped: Counter[str],
    read: int,
) -> CaseBook:
    """All packets as test cases, built as in `fitted`. Cases of publications that were trained on are tagged."""
    model = NaiveBayes.from_state(fitted["model"])
    kept = [packet for packet in packets if packet.label in model.rows]
    dropped[_UNKNOWN_LABEL] += len(packets) - len(kept)
    if not kept:
        raise CaseError(
            f"no cases are left: none of {len(packets)} has one of the {len(model.labels)} diagnoses trained on",
            where=source,
            hint="Use cases of the diagnoses that the run was trained on.",
        )
    builder = _Builder(
        model,
        fitted["seed"],
        fitted["options"],
        fitted["excluded_findings"],
        # Runs from before frequencies were matched have none.
        {name: np.asarray(added) for name, added in fitted.get("handicaps", {}).items()},
    )
    groups = set(fitted["groups"])
    seen = any(packet.group in groups for packet in kept)
    tags = [{PUBLICATION: TRAINED_ON if packet.group in groups else "new"} if seen else {} for packet in kept]
    return CaseBook(
        train=[],
        test=[
            builder.case(packet, rivals=HARDEST if packet.group in groups else NEW, tags=more)
            for packet, more in zip(kept, tags, strict=True)
        ],
        knowledge=PhenopacketKnowledge(model),
        fitted=fitted,
        read=read,
        dropped=+dropped,
    )


def _matched(
    model: NaiveBayes, train: Sequence[Packet], test: Sequence[Packet], options: int
) -> dict[str, np.ndarray]:
    """For each way to choose rivals, what is added to the labels' scores [L]."""
    if options < 2:
        return {}

    def on(packets: Sequence[Packet], pool: int) -> np.ndarray:
        scores = np.stack([model.score(packet.findings).log for packet in packets])
        gold = np.array([model.rows[packet.label] for packet in packets])
        return handicaps(scores, gold, options - 1, pool)

    own = {HARDEST: on(train, options - 1), DRAWN: on(train, OPTION_POOL * (options - 1))}
    return own | ({NEW: on(test, options - 1)} if test else {})


@dataclass(frozen=True)
class _Builder:
    """Makes cases of packets. handicaps: see `_matched`."""

    model: NaiveBayes
    seed: int
    options: int
    excluded_findings: bool
    handicaps: Mapping[str, np.ndarray]

    def case(
        self,
        packet: Packet,
        *,
        demonstrated: bool = False,
        rivals: str = HARDEST,
        tags: Mapping[str, str] | None = None,
    ) -> Case:
        """rivals: HARDEST, or of a case not trained on NEW, for the hardest labels; DRAWN from more of them."""
        scores = self.model.score(packet.findings)
        names = self._names(packet, scores, rivals)
        options = dict(zip(LETTERS, names, strict=False)) if self.options else {}
        letter = LETTERS[names.index(packet.label)] if self.options else None
        # In free text, the published name with its commas is right too; our label has none.
        published = packet.columns["disease"]
        synonyms = () if self.options or published == packet.label else (published,)
        facts = packet.findings
        if self.excluded_findings:
            facts += tuple(f"no {finding}" for finding in packet.excluded)
        return Case(
            id=packet.id,
            question=f"{_patient(packet)}Findings: {'; '.join(facts)}. Which diagnosis fits best?",
            gold=Answer("choice" if self.options else "text", packet.label, letter=letter, synonyms=synonyms),
            options=options,
            facts=facts,
            tags={"age": age_band(packet.days), "sex": packet.sex, **(tags or {})},
            group=packet.group,
            demonstration=self._demonstration(packet, scores, names) if demonstrated else None,
            columns=packet.columns,
        )

    def _demonstration(self, packet: Packet, scores: Scores, names: Sequence[str]) -> Demonstration:
        hurried = keyed_unit(self.seed, packet.id, "hurried") < HURRIED
        return demonstrate(self.model, packet.findings, scores, names, hurried=hurried)

    def _names(self, packet: Packet, scores: Scores, rivals: str) -> list[str]:
        """The right label and hard rivals, in keyed order. Without options: the likeliest labels."""
        added = self.handicaps.get(rivals, self.handicaps.get(HARDEST, 0.0))
        order = [self.model.labels[row] for row in np.argsort(-(scores.log + added), kind="stable")]
        if not self.options:
            return order[:4]
        hard = [label for label in order if label != packet.label]
        if rivals == DRAWN:
            hard = hard[: OPTION_POOL * (self.options - 1)]
            hard.sort(key=lambda label: keyed_unit(self.seed, packet.id, "drawn", label))
        hard = hard[: self.options - 1]
        return sorted([packet.label, *hard], key=lambda label: keyed_unit(self.seed, packet.id, label))


def _read_packets(rows: Iterable[Row], source: str, most: int) -> tuple[list[Packet], Counter[str]]:
    packets: list[Packet] = []
    dropped: Counter[str] = Counter()
    places: dict[str, str] = {}
    for row in rows:
        try:
            packet = _packet(row.values)
        except (KeyError, IndexError, TypeError, AttributeError):
            raise CaseError(
                "this is no phenopacket with an id, findings and a diagnosis",
                where=row.place,
                hint="Give another --format, or remove the row.",
            ) from None
        if packet.id in places:
            raise CaseError(
                f"the id `{packet.id}` is used twice, first at {places[packet.id]}",
                where=row.place,
                hint="Remove one of them.",
            )
        places[packet.id] = row.place
        if packet.findings:
            packets.append(replace(packet, findings=_first(packet.findings, most)))
        else:
            dropped[_NO_FINDING] += 1
    if not packets:
        raise CaseError(f"no cases are left: none of {len(places)} has a finding", where=source)
    return packets, dropped


def _first(findings: tuple[str, ...], most: int) -> tuple[str, ...]:
    """The first findings, `most` of them; all if `most` is 0."""
    return findings[:most] if most else findings


def _packet(values: Mapping[str, Any]) -> Packet:
    diseases = [disease for disease in values.get("diseases") or () if not disease.get("excluded")]
    disease = diseases[0]["term"] if diseases else values["interpretations"][0]["diagnosis"]["disease"]
    features = values.get("phenotypicFeatures") or ()
    observed = [feature["type"]["label"] for feature in features if not feature.get("excluded")]
    findings = _distinct(observed)
    excluded = _distinct(feature["type"]["label"] for feature in features if feature.get("excluded"))
    subject = values.get("subject") or {}
    references: Sequence[Mapping[str, Any]] = (values.get("metaData") or {}).get("externalReferences") or (
        {},
    )
    sex = {"FEMALE": "female", "MALE": "male"}.get(subject.get("sex", ""), "unknown")
    return Packet(
        id=str(values["id"]),
        label=safe_name(disease["label"]),
        findings=findings,
        excluded=tuple(finding for finding in excluded if finding not in findings),
        sex=sex,
        days=days_of(
            ((subject.get("timeAtLastEncounter") or {}).get("age") or {}).get("iso8601duration") or ""
        ),
        group=str(references[0].get("id") or values["id"]),
        columns={"disease": disease["label"], "disease_id": disease.get("id"), "finding_labels": observed},
    )


def safe_name(label: str) -> str:
    """The label as the outline grammar allows it: without comma, colon and semicolon ("CD4:CD8" -> "CD4/CD8")."""
    label = re.sub(r"(?<=\w):(?=\w)", "/", label)
    return " ".join(re.sub("[,;:]", " ", label).split()).rstrip(".")


def _distinct(labels: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for label in labels if (name := safe_name(label).lower())))


def _patient(packet: Packet) -> str:
    """The patient as far as known: "Girl, 6 years. "."""
    grown = packet.days is None or packet.days >= int(18 * 365.25)
    who = {"female": "Woman" if grown else "Girl", "male": "Man" if grown else "Boy"}.get(
        packet.sex, "Patient"
    )
    if packet.days is None:
        return "" if packet.sex == "unknown" else f"{packet.sex.capitalize()} patient. "
    return f"{who}, {age_text(packet.days)}. "
