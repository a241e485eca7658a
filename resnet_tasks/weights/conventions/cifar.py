"""The CIFAR nets as most PyTorch repositories lay them out: torchvision's names in three stages of 3x3 convolutions.

The names cannot show the preprocessing.  `linear` for the classifier is the mark of the most used of them
(https://github.com/akamaster/pytorch_resnet_cifar10), whose `trainer.py` normalises by ImageNet's constants; of others
the backbone's own constants, CIFAR-10's, are taken.
"""

import re

from resnet_tasks.weights.conventions import torchvision
from resnet_tasks.weights.conventions.reading import Reading, Tensors

IMAGENET_RGB = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
OPTION_B = (
    "its shortcuts have parameters (option B of He et al. 2015, section 4.1); the catalogue's CIFAR nets have the "
    "paper's option A, without"
)


def read(tensors: Tensors, details: dict) -> Reading | None:
    stem = tensors.get("conv1.weight")
    stages = {name.split(".")[0] for name in tensors if re.match(r"layer\d+\.", name)}
    if stem is None or stem.shape[2:] != (3, 3) or not stages or "layer4" in stages:
        return None
    if any(re.search(r"\.(downsample|shortcut)\.", name) for name in tensors):
        return Reading(convention="CIFAR", refused=OPTION_B)
    reading = torchvision.read(tensors, details)
    if reading is not None:
        reading.convention = "CIFAR"
        reading.traits = {}  # nor can the names show whether there are shortcuts at all
        reading.standardise = IMAGENET_RGB if "linear.weight" in tensors else None
    return reading
