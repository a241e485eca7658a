"""The engine's own settings, plain and resolved: no "auto" reaches the loop."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """How a run trains.

    Attributes:
        epochs: Passes over the training split.
        batch_size: Examples of a step, over all replicas and micro-batches.
        lr: The schedule's peak.
        optimizer: "sgd", "adamw" or "lamb".
        momentum: SGD's.
        nesterov: SGD's.
        weight_decay: Of matrices and kernels; norms and biases are left out.  Coupled for SGD (added to the
            gradient, as in the papers), decoupled for AdamW and LAMB.
        schedule: "constant", "linear", "cosine", "steps" or "one_cycle".
        warmup_epochs: Linear rise from 0 before the schedule.
        milestones: Epochs at which "steps" multiplies by `factor`.
        factor: See milestones.
        final_lr_fraction: Where "linear", "cosine" and "one_cycle" end, as a fraction of the peak.
        ema: Decay of the average of all variables; 0 for none.
        clip_norm: Largest global norm of the gradient, after its reduction over replicas; `None` for none.
        accumulate: Micro-batches of a step.
        precision: "float32", "bfloat16", "float16" or "float64".
        xla: Compile the forward pass, and with it the backward.
        sync_norms: Batch statistics over all replicas.
        freeze_norms: The backbone's batch norms use their moving statistics and do not train.
        freeze: The backbone's levels up to this one, or all of it ("backbone"), do not train; `None` for none.
        unfreeze_every: Epochs after which one more frozen level trains, the coarsest first; `None` for never.
        layer_decay: Each level's learning rate over that of the level above it; the head has the schedule's.
        seed: Of the order, the augmentation and the initial weights.
        early_stopping: Epochs without a better monitor after which a run ends; `None` for never.
        on_nan: "stop" or "rollback" at a loss that is not finite.
        checkpoint_minutes: Between checkpoints inside an epoch.
        evaluate_every: Epochs between evaluations.
        log_every: Steps between lines of metrics.jsonl.
        steps_per_execution: Steps that the host hands over at once; signals and checkpoints wait for their end.
    """

    epochs: int
    batch_size: int
    lr: float
    optimizer: str = "sgd"
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0
    schedule: str = "cosine"
    warmup_epochs: float = 0.0
    milestones: tuple[float, ...] = ()
    factor: float = 0.1
    final_lr_fraction: float = 0.0
    ema: float = 0.0
    clip_norm: float | None = None
    accumulate: int = 1
    precision: str = "float32"
    xla: bool = False
    sync_norms: bool = False
    freeze_norms: bool = False
    freeze: str | None = None
    unfreeze_every: float | None = None
    layer_decay: float = 1.0
    seed: int = 0
    early_stopping: int | None = None
    on_nan: str = "stop"
    checkpoint_minutes: float = 10.0
    evaluate_every: int = 1
    log_every: int = 50
    steps_per_execution: int = 1
