"""Image classification: one label a picture."""

from resnet_tasks.classification.model import Classifier

__all__ = ["Classifier"]
