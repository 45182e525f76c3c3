"""Writes a vignette as text: openings, ways to list findings, synonyms, and irrelevant details."""

from __future__ import annotations

import numpy as np

from grandrounds.domains.clinic.vignette import Vignette
from grandrounds.domains.clinic.world import World

# As in clinical notes, punctuation separates the patient and every finding. So each becomes one token in a tokenizer
# that merges within clauses, and a small model learns to read them sooner. The last four openings are held out for the
# set of unseen phrasings.
OPENINGS = (
    "Emergency department: {an} {age}-year-old {sex}, {complaint}.",
    "Family practice: {an} {age}-year-old {sex}, {complaint}.",
    "A {sex}, {age} years old, presents with {complaint}.",
    "{Complaint} brings this patient, {an} {age}-year-old {sex}, to the clinic.",
    "Referral: {sex}, {age} years, {complaint}.",
    "On the ward round: {an} {age}-year-old {sex}, in for {complaint}.",
    "Out-of-hours call: a {sex}, aged {age}, {complaint}.",
    "By ambulance: {age}-year-old {sex}, {complaint}.",
    "Walk-in clinic: {an} {age}-year-old {sex}, reporting {complaint}.",
    "Night shift: {sex}, {age}, {complaint}.",
    "Admitted for {complaint}: {an} {age}-year-old {sex}.",
    "A {sex}, {age} years old, asks for help with {complaint}.",
    "You are asked to see a patient: {sex}, {age}, {complaint}.",
    "Letter from a colleague: {age}-year-old {sex}, {complaint} since Monday.",
    "{Complaint} since yesterday: {sex}, {age} years.",
    "A {sex}, aged {age}, complains of {complaint}.",
    "For two days {complaint}: {an} {age}-year-old {sex}.",
    "Day hospital: {sex}, {age}, {complaint}.",
    "Triage note: {age}-year-old {sex}, {complaint}.",
    "Home visit: a {sex}, {age} years old, {complaint}.",
    "Worried about {complaint}: {an} {age}-year-old {sex}.",
    "Telephone consultation: {sex}, aged {age}, {complaint}.",
    "Back at the practice: {an} {age}-year-old {sex}, {complaint}.",
    "The relatives report {complaint}: {sex}, {age} years.",
    "Rural hospital: a {sex}, {age} years old, suffers from {complaint}.",
    "{Complaint} all week: {sex}, aged {age}.",
    "At the bus stop: {an} {age}-year-old {sex}, overcome by {complaint}.",
    "Handover: {sex}, {age}, main problem {complaint}.",
)
KEPT_BACK = 4
AN = (18, *range(80, 90))  # ages that begin with a vowel sound
LISTS = (
    "Complaints: {findings}.",
    "The history reveals: {findings}.",
    "Asked further, the patient mentions: {findings}.",
    "Noted: {findings}.",
    "Also: {findings}.",
    "On evaluation and history: {findings}.",
)
NEGATIVES = (
    "However, {negatives}.",
    "Of note, {negatives}.",
    "The notes say: {negatives}.",
    "On direct questioning, {negatives}.",
)
# Phrasings of each finding used in training, besides its canonical name. The last phrasing is held out.
PHRASINGS_TRAINED = 1
DETAILS = (
    "The patient keeps bees.",
    "Lunch was pasta.",
    "The patient wears reading glasses.",
    "A grandchild came along.",
    "The patient works at a bakery.",
    "The appendix scar is old.",
    "The parking meter is running.",
    "The patient is left-handed.",
    "The dog is at home.",
    "A tetanus shot was given last year.",
)
DETAIL_SHARE = 0.4
QUESTION = "Which diagnosis is most likely?"


def phrase(
    world: World, vignette: Vignette, generator: np.random.Generator, *, unseen: bool, canonical: bool
) -> str:
    """The vignette's text, without its options. Findings keep the order of `vignette.facts`.

    unseen: in the phrasings that are held out. canonical: otherwise, in the words of the clinic's table.
    """
    openings = OPENINGS[-KEPT_BACK:] if unseen else OPENINGS[:-KEPT_BACK]
    complaint = vignette.cluster.name
    opening = openings[generator.integers(len(openings))].format(
        age=vignette.age,
        an="an" if vignette.age in AN else "a",
        sex=vignette.sex,
        complaint=complaint,
        Complaint=complaint[0].upper() + complaint[1:],
    )
    observed = [_worded(world, fact, generator, unseen, canonical) for fact in vignette.facts[2:]]
    positive = [
        text for text, fact in zip(observed, vignette.facts[2:], strict=True) if not fact.startswith("no ")
    ]
    negative = observed[len(positive) :]
    parts = [opening, _pick(LISTS, generator).format(findings=", ".join(positive))]
    if negative:
        parts.append(_pick(NEGATIVES, generator).format(negatives=", ".join(negative)))
    if generator.random() < DETAIL_SHARE:
        parts.insert(int(generator.integers(1, len(parts) + 1)), _pick(DETAILS, generator))
    return " ".join([*parts, QUESTION])


def _worded(world: World, fact: str, generator: np.random.Generator, unseen: bool, canonical: bool) -> str:
    """A fact in words. Negatives keep the canonical name; findings get one of their phrasings."""
    if fact.startswith("no "):
        return fact
    phrasings = world.phrasings[fact]
    if unseen:
        return phrasings[-1]
    drawn = _pick((fact, *phrasings[:PHRASINGS_TRAINED]), generator)
    return fact if canonical else drawn


def _pick(texts: tuple[str, ...] | list[str], generator: np.random.Generator) -> str:
    return texts[generator.integers(len(texts))]
