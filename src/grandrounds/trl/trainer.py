"""GRPOTrainer with TRL's signature: it translates its arguments and calls `grandrounds.train`."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerState
from transformers.trainer_utils import TrainOutput

from grandrounds.errors import RecipeError, RunError
from grandrounds.policy.model import Policy
from grandrounds.policy.save import save_policy
from grandrounds.recipe import Recipe
from grandrounds.recipe_file import recipe_from
from grandrounds.sampling.native import NativeSampler
from grandrounds.training.changes import recipe_differences
from grandrounds.training.folder import RunFolder
from grandrounds.training.objects import Objects
from grandrounds.training.progress import MetricsRow, PlainProgress
from grandrounds.training.run import Run, resume, train
from grandrounds.trl import checkpoints
from grandrounds.trl.adapters import adapter_keys
from grandrounds.trl.config import GRPOConfig
from grandrounds.trl.data import book_of, cases_of, rows_of
from grandrounds.trl.evaluation import evaluate
from grandrounds.trl.listener import Listener
from grandrounds.trl.models import GivenModel, given_model
from grandrounds.trl.rewards import Rewards, rewards_of
from grandrounds.trl.timetable import timetable
from grandrounds.trl.translate import quantize, reported_to, translate
from grandrounds.trl.translation import Translation, table
from grandrounds.types import Case

PAGE = "docs/from-trl.md"


class Lines(PlainProgress):
    """A line for each round, without the form of our own responses, which a TRL script does not ask for."""

    def round(self, done: int, rounds: int, row: MetricsRow) -> None:
        """One round of `rounds` is done."""
        super().round(done, rounds, {name: value for name, value in row.items() if name != "format_rate"})


class GRPOTrainer:
    """Trains a model by GRPO on a TRL script's data and rewards.

    model: a folder, a Hub name or a causal LM of transformers. reward_funcs: functions in TRL's form, sequence
    classifiers or their names. The data sets have a column `prompt`, text or messages. RecipeError and its family for
    whatever cannot be done; nothing is dropped in silence.
    """

    def __init__(
        self,
        model: Any,
        reward_funcs: Any = None,
        args: GRPOConfig | None = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        reward_processing_classes: Any = None,
        callbacks: Sequence[Any] | None = None,
        optimizers: tuple[Any, Any] = (None, None),
        quantization_config: Any = None,
        peft_config: Any = None,
        tools: Any = None,
        rollout_func: Any = None,
        environment_factory: Any = None,
    ) -> None:
        _refuse(optimizers=[one for one in optimizers if one is not None], tools=tools)
        _refuse(rollout_func=rollout_func, environment_factory=environment_factory)
        self.args = _settings(args, model)
        self.train_dataset, self.eval_dataset = train_dataset, eval_dataset
        keep = not self.args.remove_unused_columns
        rows = rows_of(train_dataset, "train_dataset")
        self._cases = cases_of(rows, "train_dataset", keep)
        self._evaluated = _evaluation_cases(eval_dataset, keep)
        made = self._translated(quantization_config)
        self._given = self._model(model, processing_class, made)
        self.processing_class = self._given.tokenizer
        self._differs: list[str] = []
        saved = bool(self._given.name) and (Path(self._given.name) / "adapter_config.json").is_file()
        if saved:
            made.recipe["policy.adapter"] = "lora"
        if peft_config is not None:
            _refuse_another_adapter(saved)
            keys, self._differs = adapter_keys(peft_config, self._model_type)
            made.recipe |= keys
        columns = dict.fromkeys(name for case in self._cases for name in case.columns)
        self._rewards: Rewards = rewards_of(
            reward_funcs,
            self.args.reward_weights,
            reward_processing_classes,
            list(columns),
            lambda: self.state,
        )
        self.recipe = self._recipe(made)
        self._listener = Listener(self.args, timetable(made), [], self.evaluate)
        self._notes, self._steps = made, made.steps or 0
        for callback in callbacks or ():
            self.add_callback(callback)
        self._listener.call("on_init_end")

    @property
    def state(self) -> TrainerState:
        """Where the training stands: global_step, max_steps, epoch, log_history."""
        return self._listener.state

    @property
    def model(self) -> Any:
        """The model in training; before train() the one that was passed. RunError before a named one is loaded."""
        if self._listener.policy is not None:
            return self._listener.policy.model
        if self._given.objects is not None:
            return self._given.objects[0]
        raise RunError(
            "the model is not loaded yet",
            where="GRPOTrainer.model",
            hint="train() loads it; or pass a model instead of its name.",
        )

    def add_callback(self, callback: Any) -> None:
        """Add an object with methods of transformers' TrainerCallback, or its class."""
        self._listener.callbacks.append(callback() if inspect.isclass(callback) else callback)

    def train(self, resume_from_checkpoint: bool | str | Path | None = None) -> TrainOutput:
        """Train, or go on with the newest run in output_dir (True, or its newest checkpoint-N)."""
        print("\n".join(self._announcement()), flush=True)
        output = Path(self.args.output_dir)
        further: dict[str, Any] = {
            "cases": book_of(self._cases, [case for cases in self._evaluated.values() for case in cases]),
            "rewards": dict(self._rewards.functions),
            "model": self._given.objects,
            "sampler": self._sampler,
            "callbacks": [self._listener],
            "progress": Lines(),
            "trackers": reported_to(self.args.report_to),
        }
        try:
            if resume_from_checkpoint:
                folder = checkpoints.run_to_resume(
                    output, resume_from_checkpoint, self._listener.when.per_round
                )
                self._listener.begin(folder, checkpoints.rounds_done(folder), self._last_step)
                run = resume(folder.path, self._changes(folder, further), **further)
            else:
                folder = RunFolder(checkpoints.new_run(output))
                self._listener.begin(folder, 0, self._last_step)
                run = train(self.recipe, folder.path, **further)
        finally:
            self._listener.publish()  # also where a reward fails in the next round
        return self._ended(run)

    def evaluate(self, eval_dataset: Any = None, metric_key_prefix: str = "eval") -> dict[str, float]:
        """Sample completions of the evaluation prompts as in training, score them, and log the numbers."""
        keep = not self.args.remove_unused_columns
        sets = self._evaluated if eval_dataset is None else _evaluation_cases(eval_dataset, keep)
        if not sets:
            raise RunError("there is no eval_dataset", where="evaluate()", hint="Pass one.")
        metrics: dict[str, float] = {}
        for name, cases in sets.items():
            prefix = f"{metric_key_prefix}_{name}" if name else metric_key_prefix
            found = evaluate(
                self._policy,
                cases,
                self.recipe,
                self._rewards.functions,
                completions=self.args.num_generations_eval or self.args.num_generations,
                step=self.state.global_step,
            )
            metrics |= {f"{prefix}_{key}": value for key, value in found.items()}
        self._listener.log(metrics)
        self._listener.call("on_evaluate", metrics=metrics)
        return metrics

    def save_model(self, output_dir: str | Path | None = None) -> None:
        """Write the model, or its adapter, and the tokenizer into a folder; output_dir by default."""
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        save_policy(self._policy, folder)

    def save_state(self) -> None:
        """Write trainer_state.json into output_dir."""
        self.state.save_to_json(str(Path(self.args.output_dir) / checkpoints.STATE))

    def push_to_hub(self, *_: Any, **__: Any) -> None:
        """Refused: nothing leaves this machine by itself."""
        raise RunError(
            "nothing is pushed to the Hub",
            where="push_to_hub()",
            hint="Call save_model(FOLDER), then: hf upload NAME FOLDER.",
        )

    @property
    def _policy(self) -> Policy:
        if self._listener.policy is None:
            raise RunError("the model is not loaded yet", where="GRPOTrainer", hint="Call train() first.")
        return self._listener.policy

    @property
    def _last_step(self) -> int:
        return self.recipe.rounds * self._listener.when.per_round

    def _sampler(self, policy: Policy) -> NativeSampler:
        """Called when the policy is loaded; the callbacks' first call shows it."""
        self._listener.policy = policy
        self._listener.call("on_train_begin")
        self._listener.call("on_epoch_begin")
        self._listener.call("on_step_begin")
        return NativeSampler(policy)

    def _translated(self, quantization_config: Any) -> Translation:
        made = translate(self.args.to_dict(), self.args.given, len(self._cases))
        if quantization_config is not None:
            quantize(made, quantization_config, "model_init_kwargs")
        if self.args.eval_strategy != "no" and not self._evaluated:
            made.refuse("eval_strategy", "there is no eval_dataset", "Pass one, or leave it out.")
        made.require_supported()
        return made

    def _model(self, model: Any, tokenizer: Any, made: Translation) -> GivenModel:
        texts = [
            case.question if isinstance(case.question, str) else case.question[-1].content
            for case in self._cases
        ]
        trust, precision = made.recipe["policy.trust_remote_code"], made.recipe["policy.precision"]
        given = given_model(model, tokenizer, texts, trust, precision)
        if given.name:
            made.recipe["policy.model"] = given.name
        elif self.args.model_init_kwargs and not isinstance(model, str):
            made.note("model_init_kwargs", "no effect", "the model is loaded already")
        return given

    def _model_type(self) -> str:
        from transformers import AutoConfig

        if self._given.objects is not None:
            return str(self._given.objects[0].config.model_type)
        return str(AutoConfig.from_pretrained(self._given.name).model_type)

    def _recipe(self, made: Translation) -> Recipe:
        return recipe_from({**made.sections(), "rewards": dict(self._rewards.sections)})

    def _announcement(self) -> list[str]:
        """What differs from TRL, of the fields that the script has set."""
        notes = [*self._notes.of_kind("changed"), *self._notes.of_kind("no effect")]
        lines = [*table(notes), *(f"  {line}" for line in self._differs)]
        return [f"What differs from TRL here ({PAGE}):", *(lines or ["  nothing of what this script sets"])]

    def _changes(self, folder: RunFolder, further: Mapping[str, Any]) -> list[str]:
        """What the script has changed since the run began, as overrides; `resume` refuses what cannot change."""
        objects = Objects(further["cases"], further["rewards"], further["model"])
        began, now = folder.recipe(), objects.named_in(self.recipe)
        policy = now.policy.model_copy(update={"precision": began.policy.precision})
        now = now.model_copy(update={"policy": policy, "name": began.name})
        changed = recipe_differences(began.model_dump(mode="json"), now.model_dump(mode="json"))
        return [f"{key}={json.dumps(new)}" for key, (_, new) in changed]

    def _ended(self, run: Run) -> TrainOutput:
        metrics = self._listener.end()
        return TrainOutput(
            self.state.global_step, metrics["train_loss"], {**metrics, "epoch": self.state.epoch}
        )


def _settings(args: GRPOConfig | None, model: Any) -> GRPOConfig:
    """The script's settings, with an output folder. RecipeError for those of another library."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RecipeError(
            "one process trains on one device",
            where="WORLD_SIZE",
            hint="Start the script with python itself.",
        )
    if args is None:
        name = model if isinstance(model, str) else str(getattr(model, "name_or_path", "") or "model")
        args = GRPOConfig(f"{name.rstrip('/').rpartition('/')[2]}-GRPO")
    if not isinstance(args, GRPOConfig):
        raise RecipeError(
            f"{type(args).__module__}.{type(args).__name__} is not GRPOConfig of grandrounds.trl",
            where="args",
            hint="Write: from grandrounds.trl import GRPOConfig, GRPOTrainer.",
        )
    if not args.output_dir:
        args.output_dir = "trainer_output"
    return args


def _evaluation_cases(given: Any, keep_columns: bool) -> dict[str, list[Case]]:
    """Name -> cases of each evaluation set; a single one has no name."""
    if given is None:
        return {}
    if isinstance(given, Mapping):
        return {
            str(name): cases_of(rows_of(one, str(name)), str(name), keep_columns)
            for name, one in given.items()
        }
    return {"": cases_of(rows_of(given, "eval_dataset"), "eval_dataset", keep_columns)}


def _refuse_another_adapter(saved: bool) -> None:
    if saved:
        raise RecipeError(
            "the model is a saved adapter, which is trained on as it is",
            where="GRPOTrainer(peft_config=…)",
            hint="Leave peft_config out, or merge the adapter into its model first.",
        )


def _refuse(**arguments: Any) -> None:
    for name, value in arguments.items():
        if value:
            raise RecipeError(
                f"GRPOTrainer takes no `{name}` here",
                where=f"GRPOTrainer({name}=…)",
                hint="Leave it out: AdamW, a schedule, and the model's own completions are what there is.",
            )
