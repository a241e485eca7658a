"""The sections of a recipe for faces."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from resnet_tasks.recipes.classify import RandAugment, RandomResizedCrop
from resnet_tasks.recipes.sections import (
    BelowOne,
    Count,
    Data,
    Evaluate,
    Export,
    Fraction,
    Natural,
    Network,
    Positive,
    Strict,
    Three,
    Train,
)


class FacesData(Data):
    """Where the pictures come from, and how they are read."""

    format: Literal["auto", "folder", "tfds", "digits"] = Field("auto", description="auto finds it out and says it")
    balance: Literal["none", "weights", "repeat"] = Field(
        "none", description="identities with few pictures weigh more in the loss, or come more often"
    )
    val_share: BelowOne = Field(0.1, description="of the identities, for validation, where the data have no splits")
    test_share: BelowOne = Field(0.1, description="of the identities, for the test, where the data have no splits")
    closed: bool = Field(
        False, description="train and test have the same identities, about half of the pictures of each"
    )

    @model_validator(mode="after")
    def _leaves_some(self) -> "FacesData":
        if self.val_share + self.test_share >= 1:
            raise ValueError("test_share: no identity is left to train on; write shares that sum to less than 1")
        return self


class FacesModel(Network):
    """The network."""

    backbone: str = Field(
        "iresnet_50",
        description="a name (`resnet-tasks backbones`) or package.module:function",
        examples=["iresnet_50"],
    )
    image_size: Count | tuple[Count, Count] = Field(112, description="pixels of a face: a side, or [height, width]")
    embedding: Count = Field(512, description="numbers of an embedding")
    margin: Literal["arcface", "cosface", "combined"] = Field("arcface", description="the loss")
    margins: Three | None = Field(
        None, description="m1, m2, m3 of cos(m1 x angle + m2) - m3; null: as the margin's paper has them"
    )
    scale: Positive = Field(64.0, description="of the cosines in the loss")
    centres: Count = Field(1, description="of each identity; several are sub-centre ArcFace")
    warm_up: Natural = Field(0, description="epochs over which the margin grows from 0")
    sample_rate: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="PartialFC: the share of identities that a step compares with"
    )
    dropout: BelowOne = Field(0.0, description="before the embedding")
    flip: bool = Field(False, description="an answer is the mean with the mirrored picture's")
    far: Annotated[float, Field(gt=0, lt=1)] = Field(
        1e-3, description="the false accept rate that the threshold is chosen for"
    )


class FacesAugment(Strict):
    """What is random about a training picture."""

    flip: Literal["none", "random", "alternate"] = Field(
        "none", description="left and right; alternate: every second epoch the other way"
    )
    pad_crop: Natural = Field(0, description="pixels added on each side before a crop of image_size")
    pad_mode: Literal["zeros", "reflect"] = Field("zeros", description="what pad_crop adds")
    random_resized_crop: RandomResizedCrop | None = Field(
        None, description="a random part, resized to image_size", examples=[{"scale": [0.7, 1.0]}]
    )
    rand_augment: RandAugment | None = Field(None, description="RandAugment", examples=[{"layers": 2, "magnitude": 5}])
    color_jitter: Fraction = Field(0.0, description="strength in brightness, contrast and saturation")
    random_erasing: Fraction = Field(0.0, description="probability")
    close_epochs: Natural = Field(0, description="the last epochs, with flips and colours alone")


class FacesRecipe(Strict):
    """Face recognition."""

    task: Literal["faces"] = Field("faces", description="the group of commands that takes this recipe")
    description: str = Field("", description="a sentence for people")
    data: FacesData = FacesData()
    model: FacesModel = FacesModel()
    augment: FacesAugment = FacesAugment()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    export: Export = Export()
