"""The pictures that the decoders of the pre-training rebuild from the columns."""

from __future__ import annotations

import torch
from matplotlib.figure import Figure
from torch import Tensor

from revcol_backbone.pretraining.classifier import RevColClassifier
from revcol_backbone.pretraining.decoders import TOP_STRIDE
from revcol_backbone.revcol import RevCol

SIDE = 2.2  # inches of a picture


def rebuilds(model: RevCol, inputs: Tensor) -> bool:
    """Whether a model has decoders, and they can take images of this size."""
    is_whole = not any(side % TOP_STRIDE for side in inputs.shape[-2:])
    return isinstance(model, RevColClassifier) and bool(model.decoders) and is_whole


@torch.no_grad()
def draw_reconstructions(model: RevColClassifier, image: Tensor, name: str) -> Figure:
    """Draw the input and what each decoder rebuilds of it.

    Args:
        model: In evaluation mode.
        image: The normalized input, (3, H, W), both sides multiples of 32.
        name: That of the image.
    """
    picture = image * model.picture_std + model.picture_mean
    shown = {name: picture}
    for column, rebuilt in zip(
        model.supervised_columns, model.reconstruct(image[None]), strict=False
    ):
        error = (rebuilt[0] - picture).abs().mean().item()
        shown[f'column {column} of 0 to {model.columns - 1}\nmean error {error:.3f}'] = rebuilt[0]
    height = SIDE * image.shape[-2] / image.shape[-1] + 0.6
    figure = Figure(figsize=(SIDE * len(shown), height), layout='constrained')
    for axes, (title, pixels) in zip(figure.subplots(1, len(shown)), shown.items(), strict=True):
        axes.imshow(pixels.clamp(0, 1).permute(1, 2, 0).cpu().numpy())
        axes.set_title(title, fontsize=9)
        axes.set_axis_off()
    return figure
