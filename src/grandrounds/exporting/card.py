"""The model card of an export: what it is, how it is asked, how good it is, how it came about, what it is not for.

No case of the run gets into it, since cases may be patients': the prompt's form is shown with placeholders. Nor does a
path of this machine.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from grandrounds.cases.ask import ask
from grandrounds.domain import every
from grandrounds.exporting.card_data import (
    TOLD,
    base_of,
    environment_of,
    evaluation_of,
    license_of,
    metadata,
    shown_interval,
    source_name,
)
from grandrounds.exporting.chosen import Chosen
from grandrounds.exporting.greedy import Check
from grandrounds.policy.chat import encode_prompt
from grandrounds.policy.load import SCRATCH
from grandrounds.shares import percent
from grandrounds.training.held_out import BEST
from grandrounds.training.target import made
from grandrounds.types import Case, Message

TO_FILL = "**To be filled in**"
TITLES = {"adapter": "LoRA adapter", "merged": "model", "gguf": "GGUF file"}


@dataclass(frozen=True)
class Card:
    """A card in the making.

    messages, example: a prompt with placeholders, none where prompts are plain texts, and as
    the model reads it. base: its name on the Hub.
    """

    chosen: Chosen
    messages: tuple[Message, ...]
    example: str
    base: str | None
    license: str | None

    def text(self, kind: str, check: Check | None, why: str = "") -> str:
        """The whole README.md of one kind of export: metadata, then words.

        ValueError where huggingface_hub does not read the metadata back as they were given.
        """
        from huggingface_hub import ModelCard

        data, form = metadata(self.chosen, kind, self.base, self.license), self.chosen.recipe.prompt
        parts = (
            self._title(kind),
            _use(kind, self.messages, form.template_arguments, f"{self.chosen.recipe.name}.gguf"),
            self._prompt(),
            self._intended(),
            self._evaluation(),
            self._training(),
            f"## Check\n\n{_checked(kind, check, why)}",
            self._license(),
        )
        text = f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(parts) + "\n"
        if ModelCard(text).data.to_dict() != data.to_dict():
            raise ValueError("the card's metadata are read back otherwise than they were written")
        return text

    def _title(self, kind: str) -> str:
        form = self.chosen.recipe.prompt
        reasoning, answer = form.reasoning_tag, form.answer_tag
        return (
            f"# {self.chosen.recipe.name}\n\n"
            f"A {TITLES[kind]} trained with Group Relative Policy Optimization (GRPO) to answer with its reasoning in "
            f"the open: `<{reasoning}>…</{reasoning}>`, then `<{answer}>…</{answer}>`. "
            f"Made with Grand Rounds {environment_of(self.chosen)['grandrounds']}."
        )

    def _prompt(self) -> str:
        recipe = self.chosen.recipe
        stop = (
            f" Training also stopped at {', '.join(map(repr, recipe.grpo.stop))}." if recipe.grpo.stop else ""
        )
        lines = [
            "## Prompt",
            "A prompt as the model reads it; questions and options are placeholders:",
            fenced(self.example),
            "`generation_config.json` holds the sampling of training: temperature "
            f"{recipe.grpo.temperature:g}, no top-k or top-p, at most {recipe.grpo.max_new_tokens} tokens. Evaluations "
            f"with one answer per case decode greedily (`do_sample=False`).{stop}",
        ]
        return "\n\n".join(lines)

    def _intended(self) -> str:
        domain = every("sources").get(self.chosen.recipe.cases.source.partition(":")[0])
        notice = f"\n- {domain.notice}" if domain is not None and domain.notice else ""
        return (
            "## Intended use and limits\n\n"
            "For research on models that reason, and for evaluation on cases like those it was trained on.\n\n"
            "- Not for decisions about people without the validation and approval that such use requires.\n"
            "- A score on held-out cases is a score on those cases; other hospitals, firms, years and ways of writing "
            "may give another.\n"
            "- A reasoning that reads well need not be the one that decided the answer. Where it was rewarded, it was "
            "rewarded for what a program can check.\n"
            "- It can be wrong with confidence, and it knows nothing beyond its base model and its training cases."
            f"{notice}"
        )

    def _evaluation(self) -> str:
        row = evaluation_of(self.chosen)
        if row is None:
            return (
                "## Evaluation\n\nThis checkpoint was not evaluated while training. "
                f"{TO_FILL}: `grandrounds evaluate` says how good it is."
            )
        lines = [
            f"| {name}: {told} | {percent(row[measure])} | {shown_interval(row, measure) or 'not kept'} |"
            for measure, (name, told) in TOLD.items()
            if row.get(measure) is not None
        ]
        how = self.chosen.recipe.evaluation
        answers = "one greedy answer each" if how.samples == 1 else f"{how.samples} answers each"
        asked = f"{row['cases']} {self.chosen.run.watched} cases of {source_name(self.chosen)}"
        return (
            f"## Evaluation\n\n{asked}, {answers}, after round {row['round']}:\n\n"
            "| measure | value | 95 % interval |\n|---|---|---|\n" + "\n".join(lines) + self._selected()
        )

    def _selected(self) -> str:
        count = len(self.chosen.run.evaluations())
        if self.chosen.name != BEST or count < 2:
            return ""
        return (
            f"\n\nThis checkpoint was chosen as the best of {count} evaluations on these same cases, so the numbers "
            "flatter it: evaluate it on others."
        )

    def _training(self) -> str:
        return "\n\n".join(
            ["## Training", self._origin(), _table(procedure(self.chosen)), self._data(), self._software()]
        )

    def _origin(self) -> str:
        policy = self.chosen.recipe.policy
        if policy.model == SCRATCH:
            return "Built from scratch: there is no base model."
        if self.base is not None:
            return f"Base model: `{self.base}`."
        return f"Base model: {TO_FILL} (a local folder or file, `{Path(policy.model).name}`)."

    def _data(self) -> str:
        cases, hashes = self.chosen.recipe.cases, environment_of(self.chosen)["data"]
        if made(cases.source):
            return f"Data: the generated cases `{cases.source}`, seed {self.chosen.recipe.seed}."
        listed = "".join(f"\n- `{name}`, SHA-256 `{digest}`" for name, digest in hashes.items())
        if listed:
            return f"Data:\n{listed}"
        return f"Data: `{source_name(self.chosen)}`; no file was hashed."

    def _software(self) -> str:
        found = environment_of(self.chosen)
        versions = ", ".join(f"{name} {version}" for name, version in found["packages"].items() if version)
        on = found.get("accelerator") or f"a CPU ({found['machine']})"
        return (
            f"Software: Grand Rounds {found['grandrounds']}, Python {found['python']}, {versions}; on {on}."
        )

    def _license(self) -> str:
        if self.license is not None:
            return f"## Licence\n\n{self.license}."
        return f"## Licence\n\n{TO_FILL}: the base model's licence and the data's terms decide."


def card_of(
    chosen: Chosen, tokenizer: Any, case: Case, folder: str, base: str | None, license: str | None
) -> Card:
    """The card of a checkpoint. case: one whose shape the example has. folder: where the base model lies."""
    messages: tuple[Message, ...]
    name = base_of(chosen, base)
    recipe, placeholder = chosen.recipe.prompt, _placeholder(case)
    if recipe.raw and isinstance(placeholder.question, str):
        messages, example = (), placeholder.question
    else:
        messages = ask(placeholder, recipe)
        example = encode_prompt(tokenizer, messages, recipe.template_arguments)[1]
    return Card(chosen, messages, example, name, license or license_of(name, folder))


def _placeholder(case: Case) -> Case:
    """A case of the same shape that says nothing."""
    if isinstance(case.question, str):
        question: Any = "The question."
    else:
        question = tuple(Message(message.role, f"What the {message.role} says.") for message in case.question)
    return replace(
        case,
        question=question,
        context=tuple("A passage to be read first." for _ in case.context),
        options={letter: f"option {letter}" for letter in case.options},
    )


def procedure(chosen: Chosen) -> Mapping[str, Any]:
    """How it was trained: what a reader needs to know before the whole recipe."""
    recipe, policy, sft, grpo = chosen.recipe, chosen.recipe.policy, chosen.recipe.sft, chosen.recipe.grpo
    rewards = ", ".join(
        f"{name} ({'gate' if reward.gate else f'{reward.weight:g}'})"
        for name, reward in recipe.rewards.items()
    )
    settings = chosen.adapter_config() if chosen.has_adapter else {}
    weights = f"LoRA, rank {settings['r']}, alpha {settings['lora_alpha']}" if settings else "all"
    if policy.quantize == "4bit":
        weights += ", on base weights in 4 bits (NF4)"
    demonstrations = "demonstrations" if sft.reasoning else "answers without a reasoning"
    warmup = (
        f"{sft.steps} steps of {sft.batch_cases} {demonstrations}, {sft.optimizer}, {sft.learning_rate:g}"
    )
    row = next((row for row in chosen.run.metrics() if row["round"] == chosen.round), {})
    return {
        "trained weights": weights,
        "precision": chosen.trained_in,
        "SFT warm-up": warmup if sft.steps else "none",
        "GRPO": f"{chosen.round} rounds of {grpo.cases_per_round} cases × {grpo.group_size} completions"
        if chosen.round
        else "none",
        "loss": f"{grpo.loss}, clip {grpo.clip_low:g} and {grpo.clip_high:g}, KL weight {grpo.beta:g}",
        "learning rate": f"{grpo.optimizer}, {grpo.learning_rate:g}, {grpo.schedule}",
        "rewards (weight)": rewards,
        "tokens processed in rounds": f"{row['num_tokens']:,}" if row.get("num_tokens") else "",
        "seed": recipe.seed,
    }


def _table(rows: Mapping[str, Any]) -> str:
    lines = [
        f"| {name} | {str(value).replace('|', chr(92) + '|')} |"
        for name, value in rows.items()
        if value != ""
    ]
    return "\n".join(["| | |", "|---|---|", *lines])


def fenced(text: str, language: str = "text") -> str:
    """The text as a code block, behind a fence longer than any in it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def _checked(kind: str, check: Check | None, why: str) -> str:
    if check is None:
        return f"This file was **not** compared with the policy that was trained: {why}."
    loader = {"adapter": "transformers and PEFT", "gguf": "transformers, unpacked"}.get(kind, "transformers")
    return f"Loaded by {loader}, it gave {check}. Both decoded greedily, in float32."


LOADING = {
    "adapter": ("from peft import AutoPeftModelForCausalLM", "AutoPeftModelForCausalLM"),
    "merged": ("from transformers import AutoModelForCausalLM", "AutoModelForCausalLM"),
}


def _use(kind: str, messages: Sequence[Message], template: Mapping[str, Any], file: str) -> str:
    """How one export is loaded and asked. messages: those of the example; none where prompts are plain texts."""
    if kind == "gguf":
        return (
            f"## Use\n\nWith llama.cpp: `llama-cli -m {file}`. The file holds tokenizer and chat template; the system "
            "message, if there is one below, is yours to send."
        )
    line, name = LOADING[kind]
    further = "".join(f", {key}={value!r}" for key, value in template.items())
    chat = [{"role": message.role, "content": message.content} for message in messages]
    asked = [
        f"messages = {json.dumps(chat, indent=4, ensure_ascii=False)}",
        f"text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False{further})",
        'tokens = tokenizer(text, add_special_tokens=False, return_tensors="pt")',
    ]
    lines = [
        line,
        "from transformers import AutoTokenizer, GenerationConfig",
        "",
        'folder = "."  # or this model\'s name on the Hub',
        f'model = {name}.from_pretrained(folder, dtype="auto")',
        "tokenizer = AutoTokenizer.from_pretrained(folder)",
        "settings = GenerationConfig.from_pretrained(folder)",
        *(asked if messages else ['tokens = tokenizer("The question.", return_tensors="pt")']),
        "print(tokenizer.decode(model.generate(**tokens, generation_config=settings)[0]))",
    ]
    return "## Use\n\n" + fenced("\n".join(lines), "python")
