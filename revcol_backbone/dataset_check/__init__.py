"""Checking before a long run that a data set is complete, undamaged and fits its images."""

from revcol_backbone.dataset_check.check import (
    DEFAULT_SAMPLE,
    check_coco_dataset,
    check_dataset,
    check_label_map_dataset,
)
from revcol_backbone.dataset_check.layouts import LAYOUTS
from revcol_backbone.dataset_check.report import Report

__all__ = [
    'DEFAULT_SAMPLE',
    'LAYOUTS',
    'Report',
    'check_coco_dataset',
    'check_dataset',
    'check_label_map_dataset',
]
