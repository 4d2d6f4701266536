"""Checking that a data set is complete and the one that a config means, before a long run."""

from revcol_backbone.dataset_check.check import check_dataset
from revcol_backbone.dataset_check.layouts import LAYOUTS
from revcol_backbone.dataset_check.report import Report

__all__ = ['LAYOUTS', 'Report', 'check_dataset']
