"""The loop: it trains any task, writes down where it stands, and stops cleanly.

A step is `step.TrainStep`; an epoch is a number of steps; what is written when stands below.  The order of things at
the end of an epoch is: measure, decide what is best, write the row, write the checkpoint.  A row that no checkpoint
followed is cut on resuming.
"""

import logging
import math
import time
from collections.abc import Iterator
from dataclasses import replace

import keras
import numpy as np
import tensorflow as tf

from resnet_tasks.engine import logs, together
from resnet_tasks.engine.checkpoints import Checkpoints, Progress
from resnet_tasks.engine.convolutions import on_cpus_alone, set_convolutions
from resnet_tasks.engine.draw import grid
from resnet_tasks.engine.evaluate import Evaluator, distributed
from resnet_tasks.engine.failures import meaning
from resnet_tasks.engine.finetune import freeze, frozen_levels
from resnet_tasks.engine.norms import set_norms, share_statistics
from resnet_tasks.engine.optimizers import make_optimizer
from resnet_tasks.engine.run_folder import RunFolder
from resnet_tasks.engine.schedule import learning_rate
from resnet_tasks.engine.settings import TrainSettings
from resnet_tasks.engine.signals import StopRequest
from resnet_tasks.engine.step import Outcome, TrainStep, averaged
from resnet_tasks.errors import DivergedError, Interrupted
from resnet_tasks.task import Task

logger = logging.getLogger("resnet_tasks")

MOST_ROLLBACKS = 3
ASK_EVERY = 8  # steps after which several processes ask each other whether to stop; who preempts gives them 30 s or so
PICTURED = 32  # pictures of a batch that training_batch.png shows


class Trainer:
    """One life of a run: from its last checkpoint, or from nothing, to its end or an interruption.

    Args:
        task: What is trained.
        settings: How.
        folder: Where it is written; its state says whether there is something to resume.
        strategy: On which devices.
    """

    def __init__(self, task: Task, settings: TrainSettings, folder: RunFolder, strategy):
        self.task, self.settings, self.folder, self.strategy = task, settings, folder, strategy
        self.batches = task.batches("train", training=True)
        self.per_epoch = self.batches.steps
        self.total = self.per_epoch * settings.epochs
        keras.utils.set_random_seed(settings.seed)
        with strategy.scope():
            self.model = task.build()
            set_norms(
                self.model, synchronized=settings.sync_norms, frozen=settings.freeze_norms, fused=not settings.xla
            )
            set_convolutions(self.model, fewer_products=not settings.xla and on_cpus_alone())
            self.step = TrainStep(self.model, make_optimizer(settings), strategy, settings)
        self._frozen: tuple[str, ...] = ()
        self.checkpoints = Checkpoints(folder.checkpoints, self.step)
        resumed = folder.state == "unfinished"
        self.progress = self.checkpoints.restore() if resumed else Progress()
        self.evaluator = Evaluator(task, self.model, strategy, "val") if "val" in task.splits else None
        self._pending: list[tuple[float, Outcome]] = []

    def run(self) -> None:
        """Trains to the end and writes `model.keras`.

        Raises:
            Interrupted: A signal came; a checkpoint was written.
            DivergedError: A loss was not finite; nan_report.json says where.
        """
        self._announce()
        self._picture()
        self.records = logs.Records(self.folder.path, self.progress.step)
        self._meter, self._saved = logs.Meter(), time.monotonic()
        self._started = time.monotonic() - self.progress.seconds
        display = logs.Display(self.total, self.progress.step, self.per_epoch, bar=together.is_chief(self.strategy))
        try:
            with StopRequest() as stop:
                self._steps(display, stop)
        except tf.errors.OpError as error:
            raise meaning(error, self) from error
        finally:
            display.close()
            self.records.close()
        self._finish()

    def _steps(self, display: logs.Display, stop: StopRequest) -> None:
        data = self._data()
        while not self._ended():
            self._freeze()
            before = self.progress.step
            self._advance(data)
            step = self.progress.step
            epoch_ends = step % self.per_epoch == 0
            stopping, due = self._wishes(before, stop)
            logged = (
                epoch_ends or stopping or due or step // self.settings.log_every > before // self.settings.log_every
            )
            if logged and not self._flush(display):
                data = self._data()
                continue
            if epoch_ends:
                self._end_epoch()
            elif stopping or due:
                self._save()
            if stopping:
                raise Interrupted(
                    f"stopped by {stop.requested or 'a signal to another process'} after step {step} of {self.total}; "
                    f"a checkpoint was written: go on with --run {self.folder.name} --resume"
                )

    def _freeze(self) -> None:
        """Freezes what this epoch freezes; another set of levels is another trace."""
        frozen = frozen_levels(self.model, self.settings, self.progress.step // self.per_epoch)
        if frozen == self._frozen:
            return
        self._frozen = frozen
        freeze(self.model, frozen, norms=self.settings.freeze_norms)
        self.step.retrace()
        logger.info("frozen: %s", ", ".join(frozen) or "nothing any more")

    def _advance(self, data: Iterator) -> None:
        """One step, or as many as one execution holds, but not over the end of an epoch."""
        first = self.progress.step
        count = min(self.settings.steps_per_execution, self.per_epoch - first % self.per_epoch)
        rates = [
            self.progress.lr_scale * learning_rate(step, self.per_epoch, self.settings)
            for step in range(first, first + count)
        ]
        waited = 0.0
        if self.settings.steps_per_execution > 1:
            self._pending += zip(rates, self.step.run_many(data, rates), strict=True)
        else:
            began = time.perf_counter()
            micro_batches = tuple(next(data) for _ in range(self.settings.accumulate))
            waited = time.perf_counter() - began
            self._pending.append((rates[0], self.step.run(micro_batches, tf.constant(rates[0], tf.float64))))
        self.progress.step += count
        self._meter.add(self.settings.batch_size * count, waited)

    def _wishes(self, before: int, stop: StopRequest) -> tuple[bool, bool]:
        """Whether to stop, and whether a checkpoint is due: in any process, which is asked now and then."""
        several = together.several_processes(self.strategy)
        if several and self.progress.step // ASK_EVERY == before // ASK_EVERY:
            return False, False
        late = time.monotonic() - self._saved > 60 * self.settings.checkpoint_minutes
        # Asked once: a signal that comes later is for the step after this one.
        stopping, due = together.of_all(self.strategy, [stop.requested is not None, late])
        return stopping, due

    def _data(self) -> Iterator:
        return iter(distributed(self.strategy, self.batches, self.progress.step, self.settings.accumulate))

    def _ended(self) -> bool:
        patience = self.settings.early_stopping
        return self.progress.step >= self.total or (patience is not None and self.progress.patience >= patience)

    def _flush(self, display: logs.Display) -> bool:
        """Reads the pending steps' losses; False if they had diverged and the run was rolled back."""
        first = self.progress.step - len(self._pending)
        for number, (lr, outcome) in enumerate(self._pending, first):
            losses = {name: float(value) for name, value in outcome.losses.items()}
            if not all(math.isfinite(value) for value in losses.values()) or self._stuck(outcome):
                self._diverged(number, lr, losses, float(outcome.gradient_norm))
                return False
            for name, value in losses.items():
                self.progress.epoch_sums[name] = self.progress.epoch_sums.get(name, 0.0) + value
        if self._pending:
            lr, outcome = self._pending[-1]
            losses = {name: float(value) for name, value in outcome.losses.items()}
            rates = self._meter.read()
            epoch = (self.progress.step - 1) // self.per_epoch + 1
            norm = float(outcome.gradient_norm)
            self.records.log(
                {
                    "step": self.progress.step,
                    "epoch": epoch,
                    "lr": lr,
                    **losses,
                    "gradient_norm": norm if math.isfinite(norm) else None,
                    **rates,
                }
            )
            display.show(self.progress.step, {"losses": losses, "lr": lr, **rates})
            self._rates = rates
        self._pending.clear()
        return True

    def _stuck(self, outcome: Outcome) -> bool:
        """Whether a step was left out for good: float16 leaves some out until its scale fits."""
        if bool(outcome.finite):
            return False
        return self.settings.precision != "float16" or float(self.step.scale.numpy()) <= 1.0

    def _diverged(self, number: int, lr: float, losses: dict[str, float], norm: float) -> None:
        self._pending.clear()
        files = self._files(number)
        report = {
            "step": number + 1,
            "epoch": number // self.per_epoch + 1,
            "learning_rate": lr,
            "losses": {name: str(value) for name, value in losses.items()},
            "gradient_norm": str(norm),
            "files": files,
            "norms": {v.path: str(np.linalg.norm(v.numpy().astype("float64"))) for v in self.model.trainable_variables},
        }
        path = self.folder.name / self.folder.write_json("nan_report.json", report).name
        culprit = "gradient" if all(math.isfinite(value) for value in losses.values()) else "loss"
        what = (
            f"the {culprit} is not finite in step {number + 1} "
            f"(learning rate {lr:.3g}, {len(files)} pictures, first {files[0]})"
        )
        can_go_back = self.settings.on_nan == "rollback" and self.checkpoints.has("last")
        if not can_go_back or self.progress.rollbacks >= MOST_ROLLBACKS:
            raise DivergedError(
                f"{what}; see {path}; try a smaller train.lr, warm-up, train.clip_norm, or --on-nan rollback"
            )
        rollbacks, scale = self.progress.rollbacks + 1, self.progress.lr_scale / 2
        self.progress = self.checkpoints.restore()
        self.records.cut(self.progress.step)
        self.progress.rollbacks, self.progress.lr_scale = rollbacks, scale
        logger.warning(
            "%s; back to step %d with half the learning rate (%d of %d)",
            what,
            self.progress.step,
            rollbacks,
            MOST_ROLLBACKS,
        )

    def _files(self, step: int) -> list[str]:
        """The files of a step's batch: it is a function of the step."""
        batches = replace(self.batches, service=None).stream(step).take(1)
        return [name for _, targets in batches for name in self.batches.ids(targets["index"].numpy())]

    def _end_epoch(self) -> None:
        progress, epoch = self.progress, self.progress.step // self.per_epoch
        row: dict[str, float] = {"epoch": epoch, "step": progress.step}
        row |= {name: value / self.per_epoch for name, value in progress.epoch_sums.items()}
        row |= {
            "lr": learning_rate(progress.step - 1, self.per_epoch, self.settings) * progress.lr_scale,
            **self._rates,
        }
        progress.epoch_sums = {}
        best = False
        if self.evaluator and (epoch % self.settings.evaluate_every == 0 or self._ended()):
            measured = self._evaluate(self.evaluator)
            row |= {f"val_{key}": value for key, value in self.task.logged(measured).items()}
            best = self._judge(measured, epoch)
        progress.seconds = time.monotonic() - self._started
        row["seconds"] = round(progress.seconds, 1)
        self.records.row(row)
        self._save(best)
        shown = {
            key: value for key, value in row.items() if key in ("loss", f"val_{self.task.monitor.metric}", "val_loss")
        }
        text = ", ".join(f"{key} {value:.4f}" for key, value in shown.items())
        logger.info(
            "epoch %d of %d: %s%s (%.0f s)", epoch, self.settings.epochs, text, " *" if best else "", progress.seconds
        )
        self._meter.read()  # what passed since the last step was no training

    def _evaluate(self, evaluator: Evaluator) -> dict:
        share_statistics(self.model, self.strategy)
        with averaged(self.step):
            return evaluator.run()

    def _judge(self, measured: dict, epoch: int) -> bool:
        value = measured[self.task.monitor.metric]
        if value is not None and self.task.monitor.better(value, self.progress.best):
            self.progress.best, self.progress.best_epoch, self.progress.patience = value, epoch, 0
            return True
        self.progress.patience += 1
        return False

    def _save(self, best: bool = False) -> None:
        self.progress.seconds = time.monotonic() - self._started
        self.checkpoints.save(self.progress, best)
        self._saved = time.monotonic()

    def _finish(self) -> None:
        """`model.keras`: the best state by the monitor, the last where nothing decided; averages where kept."""
        last = self.progress
        if self.checkpoints.has("best"):
            self.checkpoints.restore("best")
        set_norms(self.model, synchronized=False, frozen=self.settings.freeze_norms)
        set_convolutions(self.model, fewer_products=False)
        with averaged(self.step):
            self._settle()
            part = self.folder.path / ".model.part.keras"
            self.model.save(part)
            part.replace(self.folder.path / "model.keras")
        self.progress = last
        self.checkpoints.finish(last)

    def _settle(self) -> None:
        """What the task takes from measurements, a threshold, goes into the model."""
        evaluator = self.evaluator
        if evaluator is None and self.task.settles_on_train:
            evaluator = Evaluator(self.task, self.model, self.strategy, "train")
        if self.task.settles and evaluator is not None:
            self.task.settle(self.model, evaluator.run())

    def _picture(self) -> None:
        """training_batch.png: the first pictures as the network sees them."""
        own = replace(self.batches, service=None)  # a look at a batch starts no job of a service
        for images, targets in own.stream(self.progress.step).take(1):
            first = {name: values.numpy()[:PICTURED] for name, values in targets.items()}
            shown = self.task.as_trained(images.numpy()[:PICTURED], first)
            grid(shown, columns=8 if len(shown) > 16 else 4).save(self.folder.path / "training_batch.png")

    def _announce(self) -> None:
        """The derived truths first."""
        settings, replicas = self.settings, self.strategy.num_replicas_in_sync
        part = settings.batch_size // (replicas * settings.accumulate)
        trainable = sum(math.prod(variable.shape) for variable in self.model.trainable_variables)
        logger.info(
            "%d trainable parameters; %d pictures, %d steps an epoch, %d epochs, %d steps; "
            "global batch %d = %d replica(s) x %d x %d micro-batch(es)",
            trainable,
            self.batches.count,
            self.per_epoch,
            settings.epochs,
            self.total,
            settings.batch_size,
            replicas,
            part,
            settings.accumulate,
        )
        if self.progress.step:
            logger.info("resuming from step %d (epoch %.2f)", self.progress.step, self.progress.step / self.per_epoch)
