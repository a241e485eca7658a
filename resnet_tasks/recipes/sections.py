"""The sections that every task's recipe has: `data`, `train`, `evaluate`, `export`; and what they are made of.

The models are strict: a wrong type or an unknown key is an error, which `recipes.problems` words for people.  A
validator of a whole section begins its message with the key that it is about, named within the section:
`accumulate: ...`.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Amount = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Three = tuple[float, float, float]
BelowOne = Annotated[float, Field(ge=0, lt=1)]


def ascending(values: tuple[float, ...]) -> tuple[float, ...]:
    if list(values) != sorted(values):
        raise ValueError("the numbers must ascend")
    return values


class Strict(BaseModel):
    """A section of a recipe: strict types, no unknown keys, finite numbers, immutable."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class Data(Strict):
    """Where the pictures come from, and how they are read."""

    where: str | dict[str, str] | None = Field(
        None, description="a folder, a file, tfds:NAME or digits; or one of them a split", examples=["my_pictures"]
    )
    images: str | None = Field(None, description="where the pictures of an annotation file lie", examples=["pictures"])
    data_dir: str | None = Field(None, description="where TFDS keeps its data sets", examples=["tensorflow_datasets"])
    split_seed: int = Field(0, description="which pictures fall into which split, where the data have none")
    group: str | None = Field(
        None,
        description="a regular expression on the file or a CSV column; a group stays on one side",
        examples=["patient"],
    )
    balance: Literal["none", "weights", "repeat"] = Field(
        "none", description="rare classes weigh more in the loss, or come more often"
    )
    cache: Literal["off", "ram", "disk"] = Field("off", description="where decoded pictures are kept")
    on_bad_image: Literal["auto", "skip", "fail"] = Field(
        "auto", description="unreadable pictures: auto skips up to 1 % of them"
    )
    service: Annotated[str, Field(pattern=r"^grpc://\S+:\d+$")] | None = Field(
        None,
        description="a tf.data service whose workers make the training batches, in an order of their own",
        examples=["grpc://dispatcher:5050"],
    )

    @model_validator(mode="after")
    def _agrees(self) -> "Data":
        if self.service and self.cache != "off":
            raise ValueError(
                f"service: its workers read the pictures themselves, and data.cache={self.cache} keeps them here; "
                "write data.cache=off"
            )
        return self


class Network(Strict):
    """The part of the network that every task has: its backbone."""

    backbone: str = Field(
        "resnet_50", description="a name (`resnet-tasks backbones`) or package.module:function", examples=["resnet_50"]
    )
    weights: str = Field(
        "none",
        description="what the backbone starts from: none, a name of `resnet-tasks weights list`, imagenet, a file, "
        "a run; auto is imagenet where that has been fetched",
        examples=["imagenet"],
    )
    allow_partial: bool = Field(False, description="take weights that fill less than 95 % of the backbone")
    standardise: tuple[Three, Three] | None = Field(
        None, description="mean and deviation of RGB 0..255; null: as the weights were trained, and this is filled in"
    )
    norm: Literal["batch", "sync_batch", "group"] = Field(
        "batch", description="sync_batch is one norm over all replicas"
    )
    image_size: Count | tuple[Count, Count] = Field(224, description="pixels: a side, or [height, width]")


class Train(Strict):
    """The optimisation, and the machine it runs on."""

    epochs: Count = Field(30, description="passes over the training pictures")
    batch_size: Count = Field(32, description="the global batch: over all replicas and accumulated parts")
    lr: Positive | Literal["auto"] = Field("auto", description="the highest learning rate", examples=[0.1])
    optimizer: Literal["sgd", "adamw", "lamb"] = Field(
        "sgd", description="sgd couples its weight decay, as the papers do"
    )
    momentum: BelowOne = Field(0.9, description="of sgd")
    nesterov: bool = Field(False, description="of sgd")
    weight_decay: Amount = Field(1e-4, description="of kernels; norms and biases have none")
    schedule: Literal["cosine", "steps", "linear", "one_cycle", "constant"] = Field(
        "cosine", description="the course of the learning rate"
    )
    warmup_epochs: Amount = Field(0.0, description="the learning rate rises linearly, before its schedule begins")
    milestones: Annotated[tuple[Positive, ...], AfterValidator(ascending)] = Field(
        (), description="epochs after which `steps` multiplies by factor", examples=[[30, 60, 80]]
    )
    factor: Annotated[float, Field(gt=0, le=1)] = Field(0.1, description="of steps")
    final_lr_fraction: Fraction = Field(0.0, description="where cosine, linear and one_cycle end, as a part of lr")
    ema: BelowOne = Field(0.0, description="decay of the averaged weights; 0 is off")
    clip_norm: Positive | None = Field(None, description="the longest gradient", examples=[1.0])
    accumulate: Count = Field(1, description="parts that a batch is computed in, for small memories")
    precision: Literal["auto", "float32", "bfloat16", "float16", "float64"] = Field(
        "auto", description="of the arithmetic; float64 proves equalities"
    )
    xla: bool | Literal["auto"] = Field("auto", description="compile the network with XLA")
    seed: Natural = Field(0, description="of everything random")
    deterministic: bool = Field(False, description="the same numbers from the same command")
    freeze: str | None = Field(
        None,
        pattern=r"^(C\d|backbone)$",
        description="the backbone up to this level does not train; backbone is all of it",
        examples=["C3", "backbone"],
    )
    unfreeze_every: Positive | None = Field(
        None, description="epochs after which one more frozen level trains, the coarsest first", examples=[2]
    )
    layer_decay: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="each level learns by this factor slower than the one above it; the head at lr"
    )
    bn: Literal["auto", "freeze", "train"] = Field(
        "auto", description="the backbone's batch norms: keep the statistics that came with its weights, or not"
    )
    early_stopping: Count | None = Field(None, description="epochs without a better value", examples=[5])
    on_nan: Literal["stop", "rollback"] = Field("stop", description="on a loss that is not finite")
    strategy: Literal["auto", "one", "mirrored", "multiworker", "tpu"] = Field("auto", description="tf.distribute's")
    devices: Annotated[str, Field(pattern=r"^(all|cpu:\d+|gpu:\d+(,\d+)*)$")] = Field(
        "all", description="all, cpu:N (N logical devices) or gpu:0,1", examples=["cpu:2", "gpu:0,1"]
    )
    checkpoint_minutes: Positive = Field(10.0, description="the longest time between checkpoints")
    log_every: Count = Field(50, description="steps between lines of metrics.jsonl")
    steps_per_execution: Count = Field(1, description="steps handed to the device at once; 10 or more on a TPU")
    meet_minutes: Positive = Field(10.0, description="how long the processes of a cluster wait for each other's start")

    @model_validator(mode="after")
    def _agrees(self) -> "Train":
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"accumulate: {self.accumulate} does not divide train.batch_size "
                f"{self.batch_size}; write a divisor of it"
            )
        if self.schedule == "steps" and not self.milestones:
            raise ValueError(
                "milestones: train.schedule=steps needs its epochs; write e.g. train.milestones=[30, 60, 80]"
            )
        if self.unfreeze_every and not self.freeze:
            raise ValueError("unfreeze_every: nothing is frozen; write train.freeze=backbone, or leave it out")
        if self.schedule == "one_cycle" and self.warmup_epochs:
            raise ValueError("warmup_epochs: one_cycle rises by itself; write train.warmup_epochs=0")
        return self


class Evaluate(Strict):
    """Measuring, during training and after it."""

    batch_size: Count | None = Field(None, description="null: as in training", examples=[256])
    every: Count = Field(1, description="epochs between evaluations")


class Export(Strict):
    """The artefact."""

    format: Literal["saved_model"] = Field("saved_model", description="what `export` writes")
