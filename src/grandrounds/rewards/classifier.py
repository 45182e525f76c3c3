"""A reward model: a sequence classifier of transformers with one output, which reads prompt and completion."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from grandrounds.errors import RewardError
from grandrounds.hub import settle
from grandrounds.types import Sample

PREFIX = "classifier:"


class Classifier:
    """Scores by the classifier's one logit. It is loaded at the first call, and runs on a GPU where there is one.

    model, tokenizer: in memory, in place of those that the name would load.
    """

    def __init__(self, name: str, *, model: Any = None, tokenizer: Any = None) -> None:
        self.name, self._model, self._tokenizer = name, model, tokenizer

    def __call__(self, samples: Sequence[Sample]) -> list[float]:
        """One score for each sample."""
        import torch

        tokenizer, model = self._loaded
        encoded = tokenizer(
            [self._text(tokenizer, sample) for sample in samples],
            return_tensors="pt",
            padding=True,
            truncation=True,
            # A template writes them itself, and a raw prompt has none.
            add_special_tokens=bool(samples[0].prompt.messages) and not tokenizer.chat_template,
        )
        with torch.inference_mode():
            logits = model(**encoded.to(model.device)).logits
        return [float(score) for score in logits[:, 0].float()]

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        if not Path(self.name).exists():
            settle()
        try:
            tokenizer = self._tokenizer or AutoTokenizer.from_pretrained(self._source)
            model: Any = self._model or AutoModelForSequenceClassification.from_pretrained(
                self.name, use_safetensors=True
            )
        except (OSError, ValueError) as error:
            raise RewardError(
                f"the reward model cannot be loaded: {str(error).strip().splitlines()[0][:200]}",
                where=self.name,
                hint="Name a folder, or a model on the Hub that can be reached.",
            ) from None
        model.eval()
        if model.config.num_labels != 1:
            raise RewardError(
                f"the reward model has {model.config.num_labels} outputs instead of one",
                where=self.name,
                hint="Choose a sequence classifier that was trained as a reward model.",
            )
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        model.config.pad_token_id = tokenizer.pad_token_id
        return tokenizer, model.to("cuda" if torch.cuda.is_available() else "cpu")

    @property
    def _source(self) -> str:
        """Where the tokenizer comes from, if none is given: a model in memory knows its own name."""
        return str(getattr(self._model, "name_or_path", "") or self.name)

    def _text(self, tokenizer: Any, sample: Sample) -> str:
        """The chat in the classifier's own template, or prompt and completion one behind the other."""
        if not tokenizer.chat_template or not sample.prompt.messages:
            return f"{sample.prompt.text}{sample.text}"
        rows = [{"role": message.role, "content": message.content} for message in sample.prompt.messages]
        return str(
            tokenizer.apply_chat_template(
                [*rows, {"role": "assistant", "content": sample.text}], tokenize=False
            )
        )
