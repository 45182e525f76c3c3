"""Signs in the update: KL or entropy running away, groups without signal, sampler and learner drifting apart."""

from __future__ import annotations

from statistics import fmean

from grandrounds.shares import percent
from grandrounds.training.monitor.history import WINDOW
from grandrounds.training.monitor.readings import ACCURACY, ENTROPY, SILENT
from grandrounds.training.monitor.sign import Finding, Sign, Watched, changed

# Nats per token. At 0.1, completions of 100 tokens are e^10 times likelier or less likely than under the reference.
FAR = 0.1
# A KL that grows steadily doubles from half of the rounds to all of them; one that grows with their square quadruples.
ACCELERATING = 4.0
# Entropy doubles or loses three quarters: learning at equal accuracy explains neither.
MORE_ENTROPY, LESS_ENTROPY = 2.0, 0.25
LEAST_ENTROPY = 0.1  # nats per token by which it must grow
NEARLY_ALL_SILENT = 0.8
# Largest |ratio - 1| before the first update in float32, ten times what rounding makes; and the mean of |log ratio| in
# bfloat16, twice what SmolLM2-135M shows there where it is least certain (0.047 at 2.8 nats a token).
RATIO, RATIO_BFLOAT16 = 1e-3, 0.1


def kl(watched: Watched) -> Finding | None:
    """The KL to the reference is large and grows faster and faster."""
    values = [row["kl"] for row in watched.history.metrics if row.get("kl") is not None]
    if len(values) < 2 * WINDOW:
        return None
    half = len(values) // 2
    now, before = fmean(values[-3:]), fmean(values[half - 3 : half])
    if now < FAR or now < ACCELERATING * before:
        return None
    grpo = watched.recipe.grpo
    return Finding(
        "kl",
        f"The KL to the reference policy runs away: {before:.2g} nats per token after half of the rounds, "
        f"{now:.2g} now",
        f"Most likely the updates are too large (grpo.learning_rate {grpo.learning_rate:g}) or the penalty too weak "
        f"(grpo.beta {grpo.beta:g})",
        "Lower grpo.learning_rate or grpo.iterations, or raise grpo.beta",
        {"before": before, "now": now},
    )


def entropy_growth(watched: Watched) -> Finding | None:
    """Tokens become random: entropy has clearly at least doubled while accuracy has not risen."""
    change = watched.history.at_equal_accuracy(
        ENTROPY, lambda change: change.ratio >= MORE_ENTROPY and change.clear(LEAST_ENTROPY)
    )
    if change is None:
        return None
    bonus = watched.recipe.grpo.entropy_bonus or watched.recipe.grpo.entropy_target
    return Finding(
        "entropy_growth",
        f"The policy becomes random: entropy {change.before.mean:.2g} to {change.now.mean:.2g} nats per token, while "
        "accuracy has not risen",
        "Most likely the entropy bonus outweighs the reward"
        if bonus
        else f"Most likely the updates are too large (grpo.learning_rate {watched.recipe.grpo.learning_rate:g}), so "
        "that what was learned is overwritten",
        "Lower grpo.entropy_bonus or grpo.entropy_target"
        if bonus
        else "Lower grpo.learning_rate or grpo.iterations, or raise grpo.cases_per_round",
        changed(change),
    )


def entropy_collapse(watched: Watched) -> Finding | None:
    """Exploration is lost: entropy has clearly fallen to a quarter while accuracy has not risen."""
    change = watched.history.at_equal_accuracy(
        ENTROPY, lambda change: change.ratio <= LESS_ENTROPY and change.clear(-LEAST_ENTROPY / 2)
    )
    if change is None:
        return None
    return Finding(
        "entropy_collapse",
        f"The policy stops exploring: entropy {change.before.mean:.2g} to {change.now.mean:.2g} nats per token, while "
        "accuracy has not risen",
        "Most likely one easily rewarded response has displaced all others, or the updates are too large",
        "Raise grpo.clip_high or set grpo.entropy_target; lower grpo.learning_rate; read the rollouts for what all "
        "responses have in common",
        changed(change),
    )


def no_signal(watched: Watched) -> Finding | None:
    """In nearly all groups all completions have the same reward, and not because they are all right."""
    silent, accuracy = watched.history.newest(SILENT), watched.history.newest(ACCURACY)
    if silent is None or silent.mean - 2 * silent.error < NEARLY_ALL_SILENT:
        return None
    right = 0.0 if accuracy is None else accuracy.mean
    return Finding(
        "no_signal",
        f"In {percent(silent.mean)} of the groups all completions have the same reward and are not all right",
        f"Most likely the cases are too hard (accuracy {percent(right)}), or the reward gives nearly everything the "
        "same",
        "Raise grpo.group_size or grpo.temperature, add a reward that grades partial success, use "
        "grpo.dynamic_sampling, or easier cases",
        {"silent": silent.mean, "error": silent.error},
    )


def ratio(watched: Watched) -> Finding | None:
    """Before the first update sampler and learner disagree by more than rounding explains."""
    row = watched.history.metrics[-1]
    coarse = watched.precision == "bfloat16"
    found = row.get("sampling/logprob_difference" if coarse else "sampling/ratio_error") or 0.0
    limit = RATIO_BFLOAT16 if coarse else RATIO
    if found <= limit:
        return None
    shown = "the mean |log ratio|" if coarse else "the largest ratio error"
    return Finding(
        "ratio",
        f"Sampler and learner disagree about the same weights: {shown} is {found:.2g}, and rounding explains {limit:g}",
        "Most likely the sampler computes in another precision, has older weights, or returns log-probs of another "
        "distribution (temperature, top-p) than it sampled from",
        "Check the sampler's log-probs and `publish`; grpo.correction bounds what the difference does",
        {"ratio_error": found},
    )


SIGNS = (
    Sign("ratio", ratio),
    Sign("kl", kl),
    Sign("entropy_growth", entropy_growth),
    Sign("entropy_collapse", entropy_collapse),
    Sign("no_signal", no_signal),
)
