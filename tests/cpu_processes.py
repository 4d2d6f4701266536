"""Imported by a config, lets mmengine's launchers start their processes on CPUs.

mmengine selects a GPU for every process before it starts their communication, and has no setting
for a machine without one.
"""

import torch


def _stay_on_the_cpu(device: object) -> None:
    """Take the place of ``torch.cuda.set_device``."""


torch.cuda.set_device = _stay_on_the_cpu
