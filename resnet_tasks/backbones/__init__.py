"""Residual backbones by name: images in, a pyramid of features out.  Importing this imports no Keras."""

from resnet_tasks.backbones.catalog import create, describe, names

__all__ = ["create", "describe", "names"]
