"""Object detection: the boxes of things in a picture, by three detectors on any residual pyramid."""

from resnet_tasks.detection.faster_rcnn import FasterRCNN
from resnet_tasks.detection.retinanet import RetinaNet
from resnet_tasks.detection.yolo import YOLO

__all__ = ["YOLO", "FasterRCNN", "RetinaNet"]
