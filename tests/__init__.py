"""The tests mirror the package: those of ``revcol_backbone/ROOM/FILE.py`` are in a file of ROOM."""

# First of all, because importing OpenMMLab's packages looks for GPUs.
import tests.device  # noqa: F401
