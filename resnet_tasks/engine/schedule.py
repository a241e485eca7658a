"""The learning rate as a pure function of the step."""

import math

from resnet_tasks.engine.settings import TrainSettings

ONE_CYCLE_RISE = 0.3  # share of the steps that rise, and
ONE_CYCLE_START = 1 / 25  # the fraction of the peak they rise from: Smith 2018, arXiv 1708.07120, as fastai sets it


def learning_rate(step: int, steps_per_epoch: int, settings: TrainSettings) -> float:
    """The learning rate of global step `step`, the first being 0."""
    total = settings.epochs * steps_per_epoch
    warmup = settings.warmup_epochs * steps_per_epoch
    if step < warmup:
        return settings.lr * (step + 1) / max(1.0, warmup)
    progress = min(1.0, (step - warmup) / max(1.0, total - warmup))
    return settings.lr * _SHAPES[settings.schedule](progress, step / steps_per_epoch, settings)


def _constant(progress: float, epoch: float, settings: TrainSettings) -> float:
    return 1.0


def _linear(progress: float, epoch: float, settings: TrainSettings) -> float:
    return 1.0 + (settings.final_lr_fraction - 1.0) * progress


def _cosine(progress: float, epoch: float, settings: TrainSettings) -> float:
    return _anneal(1.0, settings.final_lr_fraction, progress)


def _steps(progress: float, epoch: float, settings: TrainSettings) -> float:
    return settings.factor ** sum(epoch >= milestone for milestone in settings.milestones)


def _one_cycle(progress: float, epoch: float, settings: TrainSettings) -> float:
    if progress < ONE_CYCLE_RISE:
        return _anneal(ONE_CYCLE_START, 1.0, progress / ONE_CYCLE_RISE)
    return _anneal(1.0, settings.final_lr_fraction, (progress - ONE_CYCLE_RISE) / (1 - ONE_CYCLE_RISE))


def _anneal(start: float, end: float, progress: float) -> float:
    """Half a cosine from `start` (progress 0) to `end` (progress 1)."""
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


_SHAPES = {"constant": _constant, "linear": _linear, "cosine": _cosine, "steps": _steps, "one_cycle": _one_cycle}
