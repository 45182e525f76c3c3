"""The trackers that are known by name, and their opening before a run begins."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from grandrounds.errors import RunError
from grandrounds.loading import did_you_mean
from grandrounds.tracking.tracker import Tracker


def _mlflow() -> Tracker:
    from grandrounds.tracking.mlflow import MlflowTracker

    return MlflowTracker()


def _wandb() -> Tracker:
    from grandrounds.tracking.wandb import WandbTracker

    return WandbTracker()


def _trackio() -> Tracker:
    from grandrounds.tracking.trackio import TrackioTracker

    return TrackioTracker()


def _tensorboard() -> Tracker:
    from grandrounds.tracking.tensorboard import TensorboardTracker

    return TensorboardTracker()


TRACKERS: dict[str, Callable[[], Tracker]] = {
    "mlflow": _mlflow,
    "wandb": _wandb,
    "trackio": _trackio,
    "tensorboard": _tensorboard,
}


def open_trackers(wanted: Iterable[str | Tracker]) -> list[Tracker]:
    """The trackers by name, and those given as objects. RunError for a name that is unknown or not installed."""
    return [open_tracker(one) if isinstance(one, str) else one for one in _once(wanted)]


def _once(wanted: Iterable[str | Tracker]) -> list[str | Tracker]:
    """Each name once. Objects need not be hashable."""
    chosen: list[str | Tracker] = []
    for one in wanted:
        if one not in chosen:
            chosen.append(one)
    return chosen


def open_tracker(name: str) -> Tracker:
    """One of TRACKERS. RunError where it is unknown, or its package cannot be imported."""
    if name not in TRACKERS:
        raise RunError(
            f"there is no tracker `{name}`",
            where=f"--track {name}",
            hint=did_you_mean(name, TRACKERS) or f"Use {', '.join(TRACKERS)}.",
        )
    try:
        return TRACKERS[name]()
    except Exception as error:  # a package that is half installed raises whatever its first import leads to
        missing = isinstance(error, ModuleNotFoundError)
        raise RunError(
            f"the tracker {name} is not installed"
            if missing
            else f"the tracker {name} cannot be loaded: {error}",
            where=f"--track {name}",
            hint=f"pip install 'grandrounds[{name}]', or leave it out: metrics.jsonl has every number.",
        ) from error
