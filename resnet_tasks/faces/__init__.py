"""Faces: an embedding a picture, near to those of the same person and far from all others'."""

from resnet_tasks.faces.embedder import FaceEmbedder

__all__ = ["FaceEmbedder"]
