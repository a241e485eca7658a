"""The sections of a recipe for semantic segmentation."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from resnet_tasks.recipes.sections import (
    Amount,
    Count,
    Data,
    Evaluate,
    Export,
    Fraction,
    Natural,
    Network,
    Positive,
    Strict,
    Train,
    ascending,
)

# The keys of `model` that one segmenter has and another has not; null stands for the segmenter's own default.
KEYS = {
    "unet": ("decoder_channels", "full_resolution_skip"),
    "deeplab_v3_plus": ("rates", "channels", "low_level", "aux", "aux_weight"),
    "semantic_fpn": ("channels", "head_channels", "head_norm", "min_level"),
}
MULTIPLE = 32  # of the canvas's sides, for all levels to fit on one another


def refuse_odd(key: str, size: int | tuple[int, int]) -> None:
    """Raises ValueError unless the levels of a pyramid fit on a canvas of this size."""
    sides = (size, size) if isinstance(size, int) else size
    if any(side % MULTIPLE for side in sides):
        nearest = [max(MULTIPLE, round(side / MULTIPLE) * MULTIPLE) for side in sides]
        raise ValueError(f"{key}: {list(sides)} must divide by {MULTIPLE}, for the levels to fit; write {nearest}")


class SegmentData(Data):
    """Where the pictures and their masks come from, and how they are read."""

    format: Literal["auto", "masks", "voc", "coco", "tfds", "digits"] = Field(
        "auto", description="auto finds it out and says it"
    )
    balance: Literal["none", "weights", "repeat"] = Field(
        "none",
        description="pixels of rare classes weigh more (median frequency), or pictures with them come more often",
    )


class Losses(Strict):
    """What is made small, each with its weight; 0 leaves it out."""

    cross_entropy: Amount = Field(1.0, description="of each pixel")
    dice: Amount = Field(1.0, description="of the overlap with each class that a picture has")
    focal: Amount = Field(0.0, description="cross-entropy that dwells on what is hard")
    lovasz: Amount = Field(0.0, description="the Lovász extension of the classes' IoU")

    @model_validator(mode="after")
    def _is_something(self) -> "Losses":
        if not any(self.model_dump().values()):
            raise ValueError("cross_entropy: all losses are 0, and nothing would be learnt; write cross_entropy: 1.0")
        return self


class SegmentModel(Network):
    """The network."""

    segmenter: Literal["unet", "deeplab_v3_plus", "semantic_fpn"] = Field("unet", description="the head")
    image_size: Count | tuple[Count, Count] = Field(
        512, description="pixels of the canvas that a picture is answered on: a side, or [height, width]"
    )
    output_stride: Literal[8, 16, 32] | None = Field(
        None, description="of the backbone, dilated below 32; null: 16 for deeplab_v3_plus, else 32"
    )
    losses: Losses = Field(Losses(), description="cross_entropy, dice, focal, lovasz, each with its weight")
    class_weights: tuple[Amount, ...] | None = Field(
        None, description="of each class's pixels, in the order of the ids", examples=[[0.5, 1.0, 2.0]]
    )
    decoder_channels: tuple[Count, ...] | None = Field(None, description="unet: of each block, the coarsest first")
    full_resolution_skip: bool | None = Field(None, description="unet: a skip from the picture itself")
    rates: tuple[Count, ...] | None = Field(None, description="deeplab_v3_plus: of the atrous convolutions")
    channels: Count | None = Field(None, description="deeplab_v3_plus, semantic_fpn: of pyramid or head")
    low_level: bool | None = Field(None, description="deeplab_v3_plus: the decoder with C2; false is DeepLabV3")
    aux: bool | None = Field(None, description="deeplab_v3_plus: a second head on C4 in training")
    aux_weight: Amount | None = Field(None, description="deeplab_v3_plus: of that head's losses")
    head_channels: Count | None = Field(None, description="semantic_fpn: of the head")
    head_norm: Literal["batch", "group"] | None = Field(None, description="semantic_fpn: of the head")
    min_level: Annotated[int, Field(ge=1, le=4)] | None = Field(None, description="semantic_fpn: the finest level")

    @model_validator(mode="after")
    def _has_its_own_keys(self) -> "SegmentModel":
        own = KEYS[self.segmenter]
        for key in sorted({key for keys in KEYS.values() for key in keys} - set(own)):
            if getattr(self, key) is not None:
                having = ", ".join(name for name, keys in KEYS.items() if key in keys)
                raise ValueError(
                    f"{key}: {self.segmenter} has no such part ({having} has); write null, or leave it out"
                )
        refuse_odd("image_size", self.image_size)
        return self


class SegmentAugment(Strict):
    """What is random about a training picture and its mask."""

    flip: Literal["none", "random", "alternate"] = Field(
        "none", description="left and right; alternate: every second epoch the other way"
    )
    crop_size: Count | tuple[Count, Count] | None = Field(
        None, description="pixels of the training canvas, a random part of the scaled picture; null: image_size"
    )
    scale: Annotated[tuple[Positive, Positive], AfterValidator(ascending)] = Field(
        (1.0, 1.0), description="scale jitter: factors of the size fitted to image_size", examples=[[0.5, 2.0]]
    )
    rotate: Annotated[float, Field(ge=0, le=180)] = Field(0.0, description="degrees, at most, to either side")
    color_jitter: Fraction = Field(0.0, description="strength in brightness, contrast and saturation")
    cutmix: Fraction = Field(0.0, description="probability of a part of another picture and its mask")
    close_epochs: Natural = Field(0, description="the last epochs, with crops, flips and colours alone")

    @model_validator(mode="after")
    def _fits(self) -> "SegmentAugment":
        if self.crop_size is not None:
            refuse_odd("crop_size", self.crop_size)
        return self


class SegmentRecipe(Strict):
    """Semantic segmentation."""

    task: Literal["segment"] = Field("segment", description="the group of commands that takes this recipe")
    description: str = Field("", description="a sentence for people")
    data: SegmentData = SegmentData()
    model: SegmentModel = SegmentModel()
    augment: SegmentAugment = SegmentAugment()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    export: Export = Export()
