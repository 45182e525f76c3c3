"""Each sign of the monitor shows on a run that has it, and on no healthy one."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import pytest
from monitor_support import FACTS, GRAMMAR, OPTIONS, good, one_round, reasoned, some, watched

from grandrounds.recipe_guard import SignName
from grandrounds.training.monitor.history import History
from grandrounds.training.monitor.monitor import good_round
from grandrounds.training.monitor.readings import answer_ahead, tags_repeated
from grandrounds.training.monitor.sign import Finding, Watched
from grandrounds.training.monitor.signs import SIGNS


def found(run: Watched) -> dict[str, Finding]:
    return {name: one for name, sign in SIGNS.items() if (one := sign.find(run)) is not None}


def course(count: int, **change: Any) -> list[Any]:
    """Rounds of which the second half has changed: each keyword is (before, now)."""
    return [
        one_round(100 + number, **{name: pair[2 * number >= count] for name, pair in change.items()})
        for number in range(count)
    ]


def test_the_recipe_knows_every_sign_in_order() -> None:
    assert get_args(SignName) == tuple(SIGNS)


def early(random: Any, gold: str, right: bool) -> tuple[str, float]:
    text, _ = good(random, gold, right)
    answer = GRAMMAR.parse(text).answer
    return text.replace("Findings", f"Conclusion: {answer}.\nFindings"), 0.5


def favoured(random: Any, gold: str, right: bool) -> tuple[str, float]:
    return reasoned("A"), 0.5


def inventing(random: Any, gold: str, right: bool) -> tuple[str, float]:
    return good(random, gold, right)[0].replace("Findings: ", "Findings: jaundice; night sweats; "), 0.5


def repeating(random: Any, gold: str, right: bool) -> tuple[str, float]:
    text, _ = good(random, gold, right)
    return text + "\n" + text[text.index("<answer>") :], 0.5


def chatting(random: Any, gold: str, right: bool) -> tuple[str, float]:
    return good(random, gold, right)[0] + "\nI hope this helps.", 0.5


def unreasoned(random: Any, gold: str, right: bool) -> tuple[str, float]:
    text, _ = good(random, gold, right)
    answer = GRAMMAR.parse(text).answer
    return GRAMMAR.render("It is what it is.", answer or ""), 0.0


FORMS = {
    "answer_ahead": early,
    "letter_bias": favoured,
    "invented": inventing,
    "tag_repetition": repeating,
    "text_outside": chatting,
}


@pytest.mark.parametrize("sign", FORMS)
def test_a_habit_that_spreads_is_named_with_the_component_that_pays_for_it(sign: str) -> None:
    run = watched(course(6, write=(some(0.03, FORMS[sign]), some(0.4, FORMS[sign]))))
    finding = found(run)[sign]
    assert "`planted` pays for it" in finding.cause
    assert finding.numbers["now"] > finding.numbers["before"] + 0.1
    assert finding.numbers["standard_errors"] >= 4


@pytest.mark.parametrize("sign", FORMS)
def test_a_habit_that_was_always_there_is_no_alarm(sign: str) -> None:
    write = some(0.3, FORMS[sign])
    assert sign not in found(watched(course(12, write=(write, write))))


def test_marks_for_a_wrong_letter_are_named_at_once() -> None:
    def marked(random: Any, gold: str, right: bool) -> tuple[str, float]:
        text, _ = good(random, gold, right)
        return text, float(GRAMMAR.parse(text).answer == OPTIONS["A"])

    finding = found(watched([one_round(100, marked)]))["letter_bias"]
    assert finding.what.startswith("Where A is wrong, `planted` gives 1 of reward more")


def test_a_payer_is_named_only_where_one_pays() -> None:
    def unpaid(random: Any, gold: str, right: bool) -> tuple[str, float]:
        return chatting(random, gold, right)[0], float(random.random())

    def paid_by_chance(random: Any, gold: str, right: bool) -> tuple[str, float]:
        return good(random, gold, right)[0], float(random.random())

    write = lambda *given: (unpaid if given[0].random() < 0.4 else paid_by_chance)(*given)  # noqa: E731
    finding = found(watched(course(6, write=(good, write))))["text_outside"]
    assert finding.cause.startswith("Most likely")


@pytest.mark.parametrize(
    ("sign", "change"),
    [
        ("length_collapse", {"length": (40, 20)}),
        ("length_creep", {"length": (40, 60)}),
        ("cut_off", {"cut_off": (0.02, 0.3)}),
        ("entropy_growth", {"entropy": (0.3, 0.8)}),
        ("entropy_collapse", {"entropy": (0.8, 0.1)}),
        ("no_signal", {"accuracy": (0.5, 0.0001)}),
        ("wrong_pays", {"pays": (1.0, -1.0)}),
        ("accuracy_lost", {"accuracy": (0.7, 0.35)}),
        ("validity", {"write": (good, some(0.6, unreasoned))}),
    ],
)
def test_each_change_is_named(sign: str, change: dict[str, Any]) -> None:
    assert sign in found(watched(course(10, **change)))


@pytest.mark.parametrize("change", [{"length": (40, 60)}, {"length": (40, 20)}, {"entropy": (0.8, 0.1)}])
def test_a_change_along_with_accuracy_is_no_alarm(change: dict[str, Any]) -> None:
    assert found(watched(course(12, accuracy=(0.4, 0.7), **change))) == {}


def test_solved_cases_are_no_missing_signal() -> None:
    assert found(watched(course(12, accuracy=(0.5, 0.9999)))) == {}


@pytest.mark.parametrize("seed", range(3))
def test_a_healthy_run_is_silent_at_every_round(seed: int) -> None:
    """Accuracy rises to nearly all, length and entropy follow, habits fade."""
    rounds, metrics = [], []
    for number in range(24):
        done = number / 23
        write = some(0.05 * (1 - done), chatting)
        accuracy, length, entropy = 0.4 + 0.5 * done, 40 + 15 * done, 0.5 - 0.35 * done
        rounds.append(
            one_round(1000 * seed + number, write, accuracy=accuracy, length=length, entropy=entropy)
        )
        metrics.append({"round": number + 1, "kl": 0.01 * (number + 1), "sampling/ratio_error": 5e-5})
    run = watched(rounds, metrics)
    for number in range(1, 25):
        history = History(run.history.rounds[:number], metrics[:number])
        assert found(replace(run, groups=rounds[number - 1], history=history)) == {}, number


def test_one_round_is_compared_with_nothing() -> None:
    assert found(watched([one_round(1, some(0.9, chatting), length=90, entropy=3.0)])) == {}


def test_where_knowledge_checks_reasoning_its_verdict_counts() -> None:
    knowledge: Any = SimpleNamespace(
        check=lambda case, outline: SimpleNamespace(valid=len(outline.findings) == 2)
    )

    def careless(random: Any, gold: str, right: bool) -> tuple[str, float]:
        return good(random, gold, right)[0].replace(f"{FACTS[0]}; ", ""), 0.0

    run = watched(course(10, write=(good, careless)), knowledge=knowledge)
    assert "valid reasoning: 100.0 % to 0.0 %" in found(run)["validity"].what


def unopened(*given: Any) -> tuple[str, float]:
    return good(*given)[0].removeprefix("<reasoning>"), 0.0


@pytest.mark.parametrize(
    ("prefilled", "tag", "earned", "scored", "words"),
    [
        ("<reasoning>\n", "reasoning", 0.0, 1.0, "looks for it in their text"),
        ("<reasoning>\n", "reasoning", 0.0, 0.0, None),  # 0 for another reason
        ("<reasoning>\n", "reasoning", 0.1, 1.0, None),
        ("", "reasoning", 0.0, 1.0, None),
        ("<think>\n", "think", 0.0, 0.0, "the recipe asks for <reasoning>"),
        ("<think>\n", "reasoning", 0.0, 0.0, None),  # the responses do not use it
    ],
)
def test_a_component_that_the_prefilled_tag_makes_0_is_named(
    prefilled: str, tag: str, earned: float, scored: float, words: str | None
) -> None:
    def write(*given: Any) -> tuple[str, float]:
        return unopened(*given)[0].replace("reasoning>", f"{tag}>"), earned

    def score(name: str, samples: Any) -> list[float]:
        assert all(sample.text.startswith(prefilled) for sample in samples)
        return [scored] * len(samples) if name == "planted" else []

    run = watched([one_round(1, write, prefilled=prefilled)])
    finding = found(replace(run, weights={"planted": 1.0}, scored=score)).get("prefilled")
    assert (finding is not None) == (words is not None)
    if finding is not None:
        assert "`planted` gives 0 to all 128 completions" in finding.what
        assert str(words) in finding.cause


@pytest.mark.parametrize(
    ("precision", "row", "shown"),
    [
        ("float32", {"sampling/ratio_error": 2e-3}, True),
        ("float32", {"sampling/ratio_error": 2e-4}, False),
        ("bfloat16", {"sampling/ratio_error": 0.3, "sampling/logprob_difference": 0.05}, False),
        ("bfloat16", {"sampling/logprob_difference": 0.12}, True),
        ("float32", {}, False),
    ],
)
def test_a_ratio_error_beyond_rounding_is_named(precision: str, row: dict[str, float], shown: bool) -> None:
    run = watched([one_round(1)], [{"round": 1, **row}], precision=precision)
    assert ("ratio" in found(run)) is shown


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([0.002 * 1.4**n for n in range(14)], True),  # faster and faster
        ([0.02 * n for n in range(14)], False),  # steadily
        ([0.0001 * 1.4**n for n in range(14)], False),  # still near
    ],
)
def test_a_kl_that_runs_away_is_named(values: list[float], shown: bool) -> None:
    metrics = [{"round": number + 1, "kl": value} for number, value in enumerate(values)]
    assert ("kl" in found(watched([one_round(1)] * len(values), metrics))) is shown


def evaluated(*accuracies: float, every: int = 10, cases: int = 100) -> list[dict[str, Any]]:
    return [
        {
            "round": number * every,
            "cases": cases,
            "accuracy": accuracy,
            "right": {str(case): float(case < accuracy * cases) for case in range(cases)},
        }
        for number, accuracy in enumerate(accuracies)
    ]


@pytest.mark.parametrize(
    ("held", "trained", "sign", "words"),
    [
        ((0.34, 0.15), (0.35, 0.55), "not_general", "falls (34.0 % to 15.0 %, 100 cases)"),
        ((0.30, 0.32), (0.30, 0.90), "not_general", "does not follow (30.0 % to 32.0 %, 100 cases)"),
        ((0.30, 0.85), (0.30, 0.90), "", ""),  # both rise
        ((0.30, 0.25), (0.30, 0.25), "", ""),  # both fall: no shortcut
        ((0.30, 0.28), (0.30, 0.35), "", ""),  # within what chance does
        ((0.31, 0.05), (0.29, 0.20), "held_out_lost", "has fallen from 31.0 % after round 0 to 5.0 %"),
    ],
)
def test_what_does_not_carry_over_to_held_out_cases_is_named(
    held: tuple[float, float], trained: tuple[float, float], sign: str, words: str
) -> None:
    metrics = [{"round": number, "accuracy": trained[number > 10]} for number in range(1, 21)]
    shown = found(
        watched([one_round(1)] * 20, metrics, evaluated(*held, every=20), grpo={"cases_per_round": 8})
    )
    assert (words in shown[sign].what) if sign else not {"not_general", "held_out_lost"} & shown.keys()


def test_a_few_rounds_are_no_course() -> None:
    metrics = [{"round": number, "accuracy": 0.1 if number < 5 else 0.9} for number in range(1, 10)]
    assert "not_general" not in found(watched([one_round(1)] * 9, metrics, evaluated(0.35, 0.30)))


@pytest.mark.parametrize(
    ("held", "accuracy", "shown"),
    [
        ((0.5, 0.49, 0.48), (0.5, 0.5), True),
        ((0.5, 0.49, 0.55), (0.5, 0.5), False),  # held-out accuracy rises too
        ((0.5, 0.49, 0.48), (0.4, 0.6), False),  # training accuracy does
    ],
)
def test_a_reward_that_rises_alone_is_named_with_its_component(
    held: tuple[float, ...], accuracy: tuple[float, float], shown: bool
) -> None:
    def paid(random: Any, gold: str, right: bool) -> tuple[str, float]:
        return good(random, gold, right)[0], 0.5

    metrics = [{"round": number, "rewards/planted/mean": 0.5 * (number > 6)} for number in range(1, 13)]
    run = watched(course(12, write=(good, paid), accuracy=accuracy), metrics, evaluated(*held, every=6))
    finding = found(run).get("reward_alone")
    assert (finding is not None) is shown
    if finding is not None:
        assert "`planted` can be earned without being right" in finding.cause


@pytest.mark.parametrize(
    ("text", "ahead", "repeated"),
    [
        (reasoned("A"), 0, 0),
        ("<answer>Gout</answer>\n<reasoning>It hurts.</reasoning>", 1, 0),
        ("<reasoning>It is <answer>Gout</answer>.</reasoning><answer>Gout</answer>", 1, 0),
        ("<reasoning>The answer is gout.\nIt hurts.</reasoning><answer>Gout</answer>", 1, 0),
        ("<reasoning>It hurts, so the answer is gout.</reasoning><answer>Gout</answer>", 0, 0),
        (reasoned("A") + "<answer>Gout</answer>", 0, 1),
        ("<reasoning>" * 5 + "It hurts.</reasoning><answer>Gout</answer>", 0, 1),
        ("", 0, 0),
    ],
)
def test_forms_are_told_apart(text: str, ahead: float, repeated: float) -> None:
    sample: Any = SimpleNamespace(response=GRAMMAR.parse(text))
    assert (answer_ahead(sample), tags_repeated(sample, GRAMMAR)) == (ahead, repeated)


@pytest.mark.parametrize(
    ("rounds", "accuracies", "alarm", "good"),
    [
        ([0, 20, 40], {}, 50, 40),  # nothing evaluated: the newest
        ([0, 20, 40], {}, 44, 20),  # 40 lies in the window that shows the fault
        ([0, 20, 40], {0: 0.3, 20: 0.5, 40: 0.4}, 50, 20),  # the best
        ([0, 20, 40], {0: 0.5, 20: 0.5, 40: 0.4}, 50, 0),  # the earliest of equals, as checkpoints/best
        ([0, 3], {0: 0.3, 3: 0.9}, 4, 0),
    ],
)
def test_a_run_goes_back_to_the_best_checkpoint_before_the_alarm(
    rounds: list[int], accuracies: dict[int, float], alarm: int, good: int
) -> None:
    evaluations = [{"round": number, "accuracy": value} for number, value in accuracies.items()]
    assert good_round(rounds, evaluations, "accuracy", alarm) == good


def test_readings_are_means_over_groups_with_their_error() -> None:
    groups = one_round(3)
    shares = [np.mean([sample.verdict.correct for sample in group.samples]) for group in groups]
    reading = watched([groups]).history.rounds[0]["accuracy"]
    assert reading.mean == pytest.approx(np.mean(shares))
    assert reading.error == pytest.approx(np.std(shares, ddof=1) / 4)
    assert reading.groups == 16
    assert set(OPTIONS) == {name[-1] for name in watched([groups]).history.rounds[0] if "/" in name}
