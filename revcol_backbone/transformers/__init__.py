"""Reversible columns of transformer blocks."""
