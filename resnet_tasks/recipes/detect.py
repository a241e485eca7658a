"""The sections of a recipe for object detection."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from resnet_tasks.recipes.sections import (
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

# The keys of `model` that one detector has and another has not; null stands for the detector's own default.
KEYS = {
    "retinanet": ("channels", "head_depth", "min_level", "anchor_size", "head_norm", "box_loss"),
    "faster_rcnn": (
        *("channels", "width", "min_level", "anchor_size", "head_norm"),
        *("before", "proposals", "drawn", "regions"),
    ),
    "yolo": ("channels", "neck_depth", "head_depth", "min_level"),
}


class DetectData(Data):
    """Where the pictures and their boxes come from, and how they are read."""

    format: Literal["auto", "coco", "voc", "yolo", "csv", "tfds", "digits"] = Field(
        "auto", description="auto finds it out and says it"
    )
    balance: Literal["none", "weights", "repeat"] = Field(
        "none", description="pictures with rare classes weigh more in the loss, or come more often"
    )


class DetectModel(Network):
    """The network."""

    detector: Literal["retinanet", "faster_rcnn", "yolo"] = Field("retinanet", description="the kind of head")
    image_size: Count | tuple[Count, Count] = Field(
        512, description="pixels: a side, or [height, width]; pictures are fitted in, their aspect kept"
    )
    channels: Count | None = Field(None, description="of pyramid and head; null: as published", examples=[128])
    head_depth: Natural | None = Field(None, description="convolutions of the head before its last", examples=[2])
    neck_depth: Natural | None = Field(None, description="yolo: residual blocks at each merge of the neck")
    width: Count | None = Field(None, description="faster_rcnn: of the second stage's layers", examples=[256])
    min_level: Annotated[int, Field(ge=2, le=4)] | None = Field(
        None, description="the finest level of the pyramid; 2 finds smaller things, and costs four times as much"
    )
    anchor_size: Positive | None = Field(None, description="an anchor's side, in strides", examples=[4.0])
    head_norm: Literal["none", "batch", "group"] | None = Field(
        None, description="retinanet, faster_rcnn: norms of pyramid and head; none as published"
    )
    box_loss: Literal["smooth_l1", "giou"] | None = Field(None, description="retinanet: the loss of a box")
    before: Count | None = Field(None, description="faster_rcnn: proposals of a level before suppression")
    proposals: Count | None = Field(None, description="faster_rcnn: proposals of a picture")
    drawn: Count | None = Field(None, description="faster_rcnn: anchors of a picture that are learnt from")
    regions: Count | None = Field(None, description="faster_rcnn: proposals of a picture that are learnt from")
    floor: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="the score from which evaluation counts a box"
    )
    overlap: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="of two boxes of a class that overlap more, the better one stays"
    )

    @model_validator(mode="after")
    def _has_its_own_keys(self) -> "DetectModel":
        own = KEYS[self.detector]
        for key in sorted({key for keys in KEYS.values() for key in keys} - set(own)):
            if getattr(self, key) is not None:
                having = ", ".join(name for name, keys in KEYS.items() if key in keys)
                raise ValueError(f"{key}: {self.detector} has no such part ({having} has); write null, or leave it out")
        sides = (self.image_size, self.image_size) if isinstance(self.image_size, int) else self.image_size
        if any(side % 32 for side in sides):
            nearest = [max(32, round(side / 32) * 32) for side in sides]
            raise ValueError(f"image_size: {list(sides)} must divide by 32, for the levels to fit; write {nearest}")
        return self


class DetectAugment(Strict):
    """What is random about a training picture and its boxes."""

    flip: Literal["none", "random", "alternate"] = Field(
        "none", description="left and right; alternate: every second epoch the other way"
    )
    scale: Annotated[tuple[Positive, Positive], AfterValidator(ascending)] = Field(
        (1.0, 1.0), description="scale jitter: factors of the fitted size, from and to", examples=[[0.5, 2.0]]
    )
    crop: Fraction = Field(0.0, description="probability of a random part that holds a box's centre")
    expand: Fraction = Field(0.0, description="probability of a larger canvas around the picture")
    color_jitter: Fraction = Field(0.0, description="strength in brightness, contrast and saturation")
    mosaic: Fraction = Field(0.0, description="probability of four pictures in one")
    mixup: Fraction = Field(0.0, description="probability of two pictures on one another")
    close_epochs: Natural = Field(0, description="the last epochs, with flips and colours alone")


class DetectRecipe(Strict):
    """Object detection."""

    task: Literal["detect"] = Field("detect", description="the group of commands that takes this recipe")
    description: str = Field("", description="a sentence for people")
    data: DetectData = DetectData()
    model: DetectModel = DetectModel()
    augment: DetectAugment = DetectAugment()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    export: Export = Export()
