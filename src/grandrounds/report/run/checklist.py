"""The items of TRIPOD-LLM that apply to a run, each with what the run's folder says, for a reviewer to complete.

Item numbers are those of Gallifant et al. 2025, Nature Medicine 31, 60-69, doi:10.1038/s41591-024-03425-5; the wording
is ours. Items that a program cannot know are left to be filled.
"""

from __future__ import annotations

from dataclasses import dataclass

from grandrounds.evaluation.result import Evaluation
from grandrounds.report.run.facts import RunFacts
from grandrounds.report.run.licences import licence_of
from grandrounds.report.run.provenance import NOT_KNOWN, PARTS, SCRATCH, trained_weights
from grandrounds.report.words import gain, listed
from grandrounds.shares import percent, percents


@dataclass(frozen=True)
class Item:
    """One item. found: what the logs say, "" where it is to be filled by a person."""

    number: str
    topic: str
    asks: str
    found: str = ""


def checklist(facts: RunFacts) -> list[Item]:
    """All items, in the guideline's order."""
    return [
        *_introduction(facts),
        *_data(facts),
        *_methods(facts),
        *_measures(facts),
        *_conduct(facts),
        *_openness(),
        *_results(facts),
        *_discussion(),
    ]


def _introduction(facts: RunFacts) -> list[Item]:
    recipe = facts.logs.recipe
    return [
        Item(
            "1", "Title", "Says that a language model was fine-tuned and tested, for which task and for whom"
        ),
        Item("2", "Abstract", "Sums up aim, cases, model, measures, results and limits"),
        Item("3a", "Background", "The problem in practice, and why a language model is tried for it"),
        Item("3b", "Background", "Who would use it, for which people, and how care goes without it"),
        Item(
            "4",
            "Aim",
            "What was to be found out, and which stage of development this is",
            f"Fine-tuning with GRPO so that the model shows its reasoning (recipe “{recipe.name}”), and a comparison "
            "on held-out cases. The purpose is to be filled in.",
        ),
    ]


def _split(train: int, validation: int, held_out: int) -> str:
    middle = f", {validation:,} validation" if validation else ""
    return f"{train:,} training{middle} and {held_out:,} held-out cases"


def _data(facts: RunFacts) -> list[Item]:
    logs, cases = facts.logs, facts.measured.cases
    source = f"{logs.recipe.cases.source}. {logs.notice}".strip()
    split = ""
    scratch = logs.recipe.policy.model == SCRATCH
    seen = "" if scratch else "What the base model had seen before is not known."
    if cases is not None and cases.own:
        split = (
            f"{_split(cases.train, cases.validation, cases.held_out)}; {cases.evaluated:,} evaluated here, of "
            f"which {cases.leakage.exact:,} copy a training case. {seen}"
        )
    elif logs.split:
        counts = [logs.split.get(part, {"cases": 0})["cases"] for part in PARTS]
        split = f"{_split(*counts)}."
    missing = ""
    if cases is not None:
        missing = (
            "; ".join(f"{count:,} left out: {reason}" for reason, count in cases.dropped.items())
            or "No case was left out"
        )
        missing += f". Balance of answers in training: {logs.recipe.cases.balance}."
    return [
        Item("5a", "Data", "Where the cases come from, and whom they represent", source),
        Item("5b", "Data", "How they were divided, and what keeps test cases out of training", split),
        Item("5c", "Data", "From which dates they are, and up to when the base model had learned"),
        Item("5d", "Data", "How they were cleaned, de-identified and checked"),
        Item("5e", "Data", "What became of missing, unfit and unevenly frequent cases", missing),
    ]


def _methods(facts: RunFacts) -> list[Item]:
    logs = facts.logs
    recipe, policy, grpo = logs.recipe, logs.recipe.policy, logs.recipe.grpo
    scratch = policy.model == SCRATCH
    model = (
        "made from scratch"
        if scratch
        else f"{policy.model}; licence: {licence_of(policy.model) or NOT_KNOWN}"
    )
    how = recipe.evaluation
    decoding = "Greedy" if how.samples == 1 else f"Temperature {how.temperature:g}, top-p {how.top_p:g}"
    return [
        Item("6a", "Model", "Name, version and date of the model", model),
        Item(
            "6b",
            "Model",
            "How it was developed or adapted",
            f"{recipe.sft.steps:,} steps of SFT, then {logs.rounds_done:,} rounds of GRPO, loss {grpo.loss}, "
            f"trained weights: {trained_weights(policy)}, seed {recipe.seed}. The whole recipe is in this report.",
        ),
        Item(
            "6c",
            "Model",
            "Settings with which text is generated",
            f"{decoding}, at most {how.max_new_tokens or grpo.max_new_tokens} new tokens.",
        ),
        Item(
            "6d",
            "Model",
            "The output's form, and how an answer is read out of it",
            f"A reasoning between <{recipe.prompt.reasoning_tag}> tags, an answer between <{recipe.prompt.answer_tag}> "
            "tags; only the answer's text is judged, by fixed rules.",
        ),
        Item(
            "6e",
            "Model",
            "How outputs become classes or decisions, with which threshold",
            "An answer counts as right or wrong; no threshold is used.",
        ),
    ]


def _measures(facts: RunFacts) -> list[Item]:
    comparison, tried = facts.measured.comparison, facts.measured.tried
    used = [
        *(["accuracy with intervals", "paired tests and effect sizes"] if comparison else []),
        *(
            ["calibration by self-consistency", "risk and coverage", "changed options and findings"]
            if tried
            else []
        ),
    ]
    return [
        Item("7a", "Measures", "Which measures, and why these", listed(used).capitalize() if used else ""),
        Item("7b", "Measures", "What the measures mean for practice"),
        Item("7c", "Measures", "Which answer counts as right, and who decided that"),
        Item("7d", "Measures", "Who judged by eye, and how far judges agreed"),
        Item("7e", "Measures", "With what it was compared", _compared(facts)),
        Item("8a-c", "Annotation", "Who labelled the cases, with what training and agreement"),
    ]


def _conduct(facts: RunFacts) -> list[Item]:
    logs = facts.logs
    prompt = logs.recipe.prompt
    system = "the default" if prompt.system is None else "its own" if prompt.system else "none"
    machine = logs.environment.get("accelerator") or logs.environment.get("platform") or ""
    minutes = sum(float(row.get("step_time") or 0) for row in logs.metrics) / 60
    time = f"{machine}; {minutes:,.1f} minutes of rounds, without warm-up and evaluations." if machine else ""
    return [
        Item(
            "9a-b",
            "Prompts",
            "How prompts were made, and on which cases",
            f"System message: {system}; see the recipe.",
        ),
        Item("12", "Compute", "Machine and time", time),
        Item("13", "Ethics", "Approval or waiver, and consent"),
    ]


def _compared(facts: RunFacts) -> str:
    comparison = facts.measured.comparison
    others = comparison.names[:-1] if comparison is not None else ()
    return f"{', '.join(others)}, on the same cases. No person answered them." if others else ""


def _openness() -> list[Item]:
    return [
        Item("14a", "Openness", "Funding"),
        Item("14b", "Openness", "Conflicts of interest"),
        Item("14c", "Openness", "Protocol"),
        Item("14d", "Openness", "Registration"),
        Item("14e", "Openness", "Where the data can be had"),
        Item("14f", "Openness", "Where code, prompts and weights can be had"),
        Item("15", "Public", "Patients' and the public's part in it"),
    ]


def _results(facts: RunFacts) -> list[Item]:
    comparison = facts.measured.comparison
    flow = performance = ""
    if comparison is not None:
        last: Evaluation = comparison.evaluations[comparison.names[-1]]
        left_out = "; ".join(f"{count:,} {reason}" for reason, count in last.skipped.items())
        flow = f"{last.count:,} cases evaluated{f'; left out: {left_out}' if left_out else ''}."
        performance = (
            f"{percent(last.accuracy.value)} right (95 % interval {percents(last.accuracy.interval)})"
        )
        if comparison.headline is not None:
            performance += f"; against {comparison.headline.before}: {gain(comparison.headline)}"
        performance += ". Subgroups are in this report."
    changes = "; ".join(
        f"after round {row.get('after_round')}: {row.get('key')}" for row in facts.logs.changes
    )
    return [
        Item("16a-d", "Cases", "How cases went through the study, and what they are like", flow),
        Item("17", "Performance", "Results with their uncertainty, also in groups", performance),
        Item("18", "Updating", "Changes of the model during the study", changes or "No setting was changed."),
    ]


def _discussion() -> list[Item]:
    return [
        Item("19a", "Discussion", "What the results mean"),
        Item("19b", "Discussion", "Limits", "Listed in this report under “What these numbers cannot say”."),
        Item("19c", "Discussion", "Where and under which conditions it may be used"),
        Item("19d", "Discussion", "Intended use, and use that is ruled out"),
        Item("19e", "Discussion", "What happens with poor or missing input"),
        Item("19f", "Discussion", "What users must know, and who supervises"),
        Item("19g", "Discussion", "What should come next"),
    ]
