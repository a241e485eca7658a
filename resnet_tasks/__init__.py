"""Residual networks as applications: from a folder of pictures to a served model.

    run = resnet_tasks.train("classify", data="my_pictures/")
    model = resnet_tasks.load(run)
    model.predict(["cat.jpg"])

The names below are imported when they are first used: `import resnet_tasks` costs nothing and brings in no TensorFlow.
"""

import importlib
from typing import TYPE_CHECKING, Any

from resnet_tasks.kernels import prefer_onednn

if TYPE_CHECKING:
    from resnet_tasks import backbones, classification, detection, faces, segmentation
    from resnet_tasks.commands import batches, check, evaluate, export, load, predict, train
    from resnet_tasks.recognition import enroll, identify, verify

__version__ = "0.1.0"

_VERBS = {
    **dict.fromkeys(("batches", "check", "evaluate", "export", "load", "predict", "train"), "commands"),
    **dict.fromkeys(("enroll", "identify", "verify"), "recognition"),
}
_PACKAGES = ("backbones", "classification", "detection", "faces", "segmentation")

__all__ = [
    "__version__",
    "backbones",
    "batches",
    "check",
    "classification",
    "detection",
    "enroll",
    "evaluate",
    "export",
    "faces",
    "identify",
    "load",
    "predict",
    "segmentation",
    "train",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        prefer_onednn()  # before what is imported here imports TensorFlow
    if name in _VERBS:
        return getattr(importlib.import_module(f"resnet_tasks.{_VERBS[name]}"), name)
    if name in _PACKAGES:
        return importlib.import_module(f"resnet_tasks.{name}")
    raise AttributeError(f"module 'resnet_tasks' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted(__all__)
