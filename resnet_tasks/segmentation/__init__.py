"""Semantic segmentation: a class for each pixel of a picture, by three segmenters on any residual pyramid."""

from resnet_tasks.segmentation.deeplab import DeepLabV3Plus
from resnet_tasks.segmentation.semantic_fpn import SemanticFPN
from resnet_tasks.segmentation.unet import UNet

__all__ = ["DeepLabV3Plus", "SemanticFPN", "UNet"]
