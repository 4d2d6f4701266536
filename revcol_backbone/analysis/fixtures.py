"""Random weights of the magnitude of trained ones, for measuring without a checkpoint."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

Network = TypeVar('Network', bound=nn.Module)


def randomize_like_trained(model: Network) -> Network:
    """Draw weights with the spread of a trained network, alpha between 0.2 and 1, in place."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            leaf = name.rpartition('.')[2]
            if leaf.startswith('alpha'):
                parameter.normal_(0.5, 0.1).clamp_(0.2, 1)
            elif leaf == 'gamma':
                parameter.normal_(0.5, 0.1)
            elif leaf == 'bias':
                parameter.normal_(0, 0.1)
            elif parameter.ndim == 1:
                parameter.normal_(1, 0.1)
            else:
                nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    return model
