"""The sections of a recipe for image classification."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from resnet_tasks.recipes.sections import (
    Amount,
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
    Train,
    ascending,
)


class ClassifyData(Data):
    """Where the pictures come from, and how they are read."""

    format: Literal["auto", "folder", "csv", "tfds", "digits"] = Field(
        "auto", description="auto finds it out and says it"
    )


class ClassifyModel(Network):
    """The network."""

    crop_fraction: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="evaluation resizes to image_size / crop_fraction and takes the centre"
    )
    dropout: BelowOne = Field(0.0, description="before the last layer")


class RandomResizedCrop(Strict):
    """A random part of the picture, resized to image_size (Szegedy et al. 2014, section 6)."""

    scale: Annotated[
        tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(gt=0, le=1)]], AfterValidator(ascending)
    ] = Field((0.08, 1.0), description="the part's share of the picture's area, from and to")
    ratio: Annotated[tuple[Positive, Positive], AfterValidator(ascending)] = Field(
        (0.75, 1.3333), description="the part's width over its height, from and to"
    )


class RandAugment(Strict):
    """Cubuk et al. 2019, section 3."""

    layers: Count = Field(2, description="operations a picture")
    magnitude: Annotated[float, Field(ge=0, le=10)] = Field(9.0, description="their strength, 0 to 10")


class ClassifyAugment(Strict):
    """What is random about a training picture."""

    flip: Literal["none", "random", "alternate"] = Field(
        "none", description="left and right; alternate: every second epoch the other way"
    )
    pad_crop: Natural = Field(0, description="pixels added on each side before a crop of image_size")
    pad_mode: Literal["zeros", "reflect"] = Field("zeros", description="what pad_crop adds")
    random_resized_crop: RandomResizedCrop | None = Field(
        None, description="a random part, resized to image_size", examples=[{"scale": [0.08, 1.0]}]
    )
    rand_augment: RandAugment | None = Field(None, description="RandAugment", examples=[{"layers": 2, "magnitude": 9}])
    color_jitter: Fraction = Field(0.0, description="strength in brightness, contrast and saturation")
    random_erasing: Fraction = Field(0.0, description="probability")
    mixup: Amount = Field(0.0, description="alpha; 0 is off")
    cutmix: Amount = Field(0.0, description="alpha; 0 is off")
    close_epochs: Natural = Field(0, description="the last epochs, without crops, mixing, RandAugment and erasing")


class ClassifyTrain(Train):
    """The optimisation, and the machine it runs on."""

    label_smoothing: BelowOne = Field(0.0, description="probability spread over all classes")


class ClassifyRecipe(Strict):
    """Image classification."""

    task: Literal["classify"] = Field("classify", description="the group of commands that takes this recipe")
    description: str = Field("", description="a sentence for people")
    data: ClassifyData = ClassifyData()
    model: ClassifyModel = ClassifyModel()
    augment: ClassifyAugment = ClassifyAugment()
    train: ClassifyTrain = ClassifyTrain()
    evaluate: Evaluate = Evaluate()
    export: Export = Export()
