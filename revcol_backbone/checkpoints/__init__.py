"""Checkpoint files: finding, downloading, reading, fitting and writing them."""
