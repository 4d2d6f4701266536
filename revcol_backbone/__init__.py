"""Reversible Column Networks for detection and segmentation."""
