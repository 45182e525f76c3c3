"""Putting a vignette into words: openings, ways to list findings, synonyms, and irrelevant details."""

from __future__ import annotations

import numpy as np

from grandrounds.cases.clinic.vignette import Vignette
from grandrounds.cases.clinic.world import World

# The last four are kept back for the held-out set of unseen phrasings.
OPENINGS = (
    "A {age}-year-old {sex} comes to the emergency department with {complaint}.",
    "A {age}-year-old {sex} sees the family doctor about {complaint}.",
    "A {sex} of {age} presents with {complaint}.",
    "{Complaint} brings a {age}-year-old {sex} to the clinic.",
    "A {age}-year-old {sex} is referred for {complaint}.",
    "On the ward round: a {age}-year-old {sex} with {complaint}.",
    "A {sex} aged {age} calls the out-of-hours service about {complaint}.",
    "The ambulance brings a {age}-year-old {sex} with {complaint}.",
    "In the walk-in clinic, a {age}-year-old {sex} reports {complaint}.",
    "Night shift: a {sex} of {age} with {complaint}.",
    "A {age}-year-old {sex} is admitted because of {complaint}.",
    "A {sex}, {age} years old, asks for help with {complaint}.",
    "You are asked to see a {age}-year-old {sex} with {complaint}.",
    "Referral letter: {sex}, {age} years, {complaint}.",
    "A {age}-year-old {sex} has had {complaint} since yesterday.",
    "A {sex} aged {age} complains of {complaint}.",
    "For two days a {age}-year-old {sex} has had {complaint}.",
    "A {age}-year-old {sex} attends the day hospital with {complaint}.",
    "Triage note: {sex}, {age}, {complaint}.",
    "A home visit finds a {age}-year-old {sex} with {complaint}.",
    "A {sex} of {age} is worried about {complaint}.",
    "Telephone consultation: a {age}-year-old {sex} describes {complaint}.",
    "A {age}-year-old {sex} returns to the practice with {complaint}.",
    "The relatives of a {age}-year-old {sex} report {complaint}.",
    "Seen in the rural hospital: a {sex} of {age} who suffers from {complaint}.",
    "{Complaint} has troubled this {age}-year-old {sex} all week.",
    "At the bus stop a {sex} aged {age} is overcome by {complaint}.",
    "Handover: {age}-year-old {sex}, main problem {complaint}.",
)
KEPT_BACK = 4
LISTS = (
    "There is {findings}.",
    "The history reveals {findings}.",
    "Asked further, the patient mentions {findings}.",
    "Noted: {findings}.",
    "Also {findings}.",
    "On examination and history: {findings}.",
)
NEGATIVES = (
    "There is {negatives}.",
    "Of note, {negatives}.",
    "The notes say {negatives}.",
    "On direct questioning, {negatives}.",
)
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


def phrase(world: World, vignette: Vignette, generator: np.random.Generator, *, unseen: bool) -> str:
    """The vignette's text, without its options. Findings keep the order of `vignette.facts`."""
    openings = OPENINGS[-KEPT_BACK:] if unseen else OPENINGS[:-KEPT_BACK]
    complaint = vignette.cluster.name
    opening = openings[generator.integers(len(openings))].format(
        age=vignette.age,
        sex=vignette.sex,
        complaint=complaint,
        Complaint=complaint[0].upper() + complaint[1:],
    )
    told = [_worded(world, fact, generator, unseen) for fact in vignette.facts[2:]]
    positive = [
        text for text, fact in zip(told, vignette.facts[2:], strict=True) if not fact.startswith("no ")
    ]
    negative = told[len(positive) :]
    parts = [opening, _pick(LISTS, generator).format(findings=", ".join(positive))]
    if negative:
        parts.append(_pick(NEGATIVES, generator).format(negatives=" and ".join(negative)))
    if generator.random() < DETAIL_SHARE:
        parts.insert(int(generator.integers(1, len(parts) + 1)), _pick(DETAILS, generator))
    return " ".join([*parts, QUESTION])


def _worded(world: World, fact: str, generator: np.random.Generator, unseen: bool) -> str:
    """Negatives keep the canonical name; findings take one of their phrasings."""
    if fact.startswith("no "):
        return fact
    *known, kept_back = world.phrasings[fact]
    return kept_back if unseen else _pick((fact, *known), generator)


def _pick(texts: tuple[str, ...] | list[str], generator: np.random.Generator) -> str:
    return texts[generator.integers(len(texts))]
