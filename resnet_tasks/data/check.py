"""The data doctor: reads a whole data set, decodes every picture, says what is wrong, changes nothing."""

from resnet_tasks.data.check_boxes import check_detection
from resnet_tasks.data.check_classes import check_classification
from resnet_tasks.data.check_faces import check_faces
from resnet_tasks.data.check_masks import check_segmentation
from resnet_tasks.data.check_report import Finding, Report

__all__ = ["Finding", "Report", "check_classification", "check_detection", "check_faces", "check_segmentation"]
