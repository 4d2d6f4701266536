"""RevCol with timm's interface for classifiers and feature extractors.

The network is :class:`~revcol_backbone.RevCol` itself, under ``backbone``, with timm's head of
pooling, LayerNorm and Linear on its last level, under ``cls``. The published files have
classification heads of another layout, which are not loaded: ``pretrained=True`` loads the
backbone, into models without a head or with one that is to be trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from timm.layers import NormMlpClassifierHead
from timm.models import adapt_input_conv, register_notrace_module
from timm.models._features import feature_take_indices
from torch import Tensor, nn

from revcol_backbone.checkpoints.pretrained import load_pretrained
from revcol_backbone.checkpoints.reading import read_weights, weights_entry
from revcol_backbone.checkpoints.sources import locate_checkpoint
from revcol_backbone.checkpoints.state_dict import check_match, pad_kernels, select_backbone
from revcol_backbone.revcol import RevCol, initialize_weights
from revcol_backbone.variants import LEVELS

IMAGENET_CLASSES = 1000
IMAGE_CHANNELS = 3  # of ImageNet
FIRST_CONVOLUTION = 'stem.0.weight'
POOLS = ('avg', 'max', 'avgmax', '')
# Its checks look at values and its memory-saving mode is no graph: symbolic tracing calls it whole.
register_notrace_module(RevCol)


class RevColClassifier(nn.Module):
    """A RevCol with timm's interface for classifiers and feature extractors.

    Args:
        arch: As for :class:`~revcol_backbone.RevCol`.
        num_classes: Outputs of the head; 0 leaves out the last linear layer. Default 1000.
        in_chans: Channels of the image. Default 3.
        global_pool: ``'avg'`` (default), ``'max'``, ``'avgmax'``, or ``''`` for none: the head then
            works at every position.
        drop_rate: Dropout before the last linear layer. Default 0.
        drop_path_rate: Stochastic depth rate of the last block of each column. Default 0.
        device: Device to build the model on. Default PyTorch's.
        dtype: Floating-point type of the parameters. Default PyTorch's.
        **backbone: Further arguments of RevCol: ``kernel_size``, ``save_memory``,
            ``anchor_every``, ``frozen_columns``.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        arch: Any,
        num_classes: int = IMAGENET_CLASSES,
        in_chans: int = 3,
        global_pool: str = 'avg',
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **backbone: Any,
    ) -> None:
        super().__init__()
        _check_pool(global_pool)
        with torch.device(device) if device is not None else nullcontext():
            self.backbone = RevCol(
                arch, drop_path_rate=drop_path_rate, in_channels=in_chans, **backbone
            )
            channels = self.backbone.arch.channels
            self.cls = NormMlpClassifierHead(
                channels[-1], num_classes, pool_type=global_pool, drop_rate=drop_rate
            )
            initialize_weights(self.cls.fc)
        self.to(dtype=dtype)
        # Features pass through these, so that timm's hooks have modules to look at.
        self.levels = nn.ModuleList(nn.Identity() for _ in range(LEVELS))
        self.feature_info = [
            {'num_chs': width, 'reduction': 4 * 2**level, 'module': f'levels.{level}'}
            for level, width in enumerate(channels)
        ]
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.num_features = self.head_hidden_size = channels[-1]
        self.drop_rate = drop_rate

    def forward(self, x: Tensor) -> Tensor:
        """Classify images (B, in_chans, H, W).

        Returns:
            Logits (B, num_classes), or (B, C[3]) without classes; without pooling both at each
            position, (B, ..., H / 32, W / 32).
        """
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """Compute the last level of the last column, (B, C[3], H / 32, W / 32).

        A pruned model gives the highest level that it has left.
        """
        return self._forward_levels(x)[-1]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Pool and classify features; ``pre_logits`` stops before the last linear layer."""
        return self.cls(x, pre_logits=pre_logits)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = 'NCHW',
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Compute levels of the last column, as timm's feature extractors ask for them.

        Args:
            x: Images (B, in_chans, H, W).
            indices: Levels, or how many of the last ones; ``None`` for all that there are.
            norm: No effect: the levels have no norm of their own.
            stop_early: No effect: every level of the last column needs all columns.
            output_fmt: Only ``'NCHW'``.
            intermediates_only: Omit the first of the two results.

        Returns:
            The last level and the list of chosen levels.
        """
        if output_fmt != 'NCHW':
            raise ValueError(f'RevCol output_fmt={output_fmt!r} is not allowed; give NCHW.')
        chosen, _ = feature_take_indices(len(self.levels), indices)
        features = self._forward_levels(x)
        intermediates = [features[index] for index in chosen]
        return intermediates if intermediates_only else (features[-1], intermediates)

    def prune_intermediate_layers(
        self,
        indices: int | list[int] = 1,
        prune_norm: bool = False,
        prune_head: bool = True,
    ) -> list[int]:
        """Remove what the chosen levels do not need: higher levels, and the head.

        Args:
            indices: Levels, or how many of the last ones.
            prune_norm: Remove the norm of the head, and with it the head.
            prune_head: Remove the head.

        Returns:
            The indices of the chosen levels.
        """
        chosen, highest = feature_take_indices(len(self.levels), indices)
        self.backbone.prune_levels(highest)
        self.levels = self.levels[: highest + 1]
        self.num_features = self.head_hidden_size = self.backbone.arch.channels[highest]
        if prune_norm or prune_head:
            self.cls.reset(0, '', reset_other=True)
            self.num_classes = 0
        return chosen

    def get_classifier(self) -> nn.Module:
        """Return the last linear layer."""
        return self.cls.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Put in a fresh last linear layer.

        Args:
            num_classes: Its outputs; 0 for none.
            global_pool: Another pooling, as for the class; ``None`` keeps it.
        """
        if global_pool is not None:
            _check_pool(global_pool)
        self.num_classes = num_classes
        self.cls.reset(num_classes, global_pool, in_features=self.num_features)
        initialize_weights(self.cls.fc)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Switch RevCol's memory-saving backward pass on or off."""
        self.backbone.save_memory = enable

    def no_weight_decay(self) -> set[str]:
        """Name the parameters besides 1-D ones that take no weight decay: ``alpha``."""
        return {name for name, _ in self.named_parameters() if '.alpha' in name}

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Tell how timm groups the parameters: stem, columns or blocks, head."""
        block = r'^backbone\.subnet(\d+)\.level(\d+)\.blocks\.(\d+)'
        column = r'^backbone\.subnet(\d+)'
        return {
            'stem': r'^backbone\.stem',
            'blocks': column if coarse else [(block, None), (column, None)],
        }

    def load_pretrained(self, checkpoint: str) -> None:
        """Load the backbone of a published file; timm calls this for ``pretrained=True``.

        For images without three channels the first convolution is adapted as timm does it.

        Raises:
            ValueError: The model has a head for ImageNet, which would stay untrained, or the file
                does not fit.
        """
        self.check_head(checkpoint)
        if self.in_chans == IMAGE_CHANNELS:
            load_pretrained(self.backbone, checkpoint)
            return
        path = locate_checkpoint(checkpoint)
        self.backbone.load_state_dict(_fit_backbone(read_weights(path), self, path))

    def check_head(self, source: object) -> None:
        """Raise a ValueError if backbone weights would leave a head for ImageNet untrained."""
        if self.num_classes == IMAGENET_CLASSES:
            raise ValueError(
                f'{source} gives the backbone only, so a head of {IMAGENET_CLASSES} classes would '
                'be untrained; use `features_only=True`, `num_classes=0` or the number of classes '
                'of a head that you train.'
            )

    def _forward_levels(self, x: Tensor) -> list[Tensor]:
        features = self.backbone(x)
        # By index, because symbolic tracing cannot iterate over what a module returns.
        return [level(features[index]) for index, level in enumerate(self.levels)]


def fit_weights(checkpoint: Mapping[str, Any], model: RevColClassifier) -> dict[str, Tensor]:
    """Turn a published file, or one of this class, into the model's state dict.

    timm calls this where another file was named for ``pretrained=True``.

    Raises:
        ValueError: The file does not fit, or its head is not ours and would stay untrained.
    """
    source = Path('The file for pretrained=True')
    entry = weights_entry(checkpoint, source)
    weights = checkpoint if entry is None else checkpoint[entry]
    fitted = _fit_backbone(weights, model, source)
    head = {f'cls.{key}': value for key, value in model.cls.state_dict().items()}
    if head.keys() <= weights.keys():
        head = {key: weights[key] for key in head}
    else:
        model.check_head(source)
    return {f'backbone.{key}': value for key, value in fitted.items()} | head


def _fit_backbone(
    weights: Mapping[str, Tensor], model: RevColClassifier, source: Path
) -> dict[str, Tensor]:
    stored = select_backbone(weights, source)
    first = stored.get(FIRST_CONVOLUTION)
    if first is not None and first.shape[1] == IMAGE_CHANNELS != model.in_chans:
        stored[FIRST_CONVOLUTION] = adapt_input_conv(model.in_chans, first)
    fitted, _ = pad_kernels(stored, model.backbone.kernel_size)
    check_match(stored, fitted, model.backbone.state_dict(), source)
    return fitted


def _check_pool(global_pool: str) -> None:
    if global_pool not in POOLS:
        raise ValueError(
            f"RevCol global_pool={global_pool!r} is not allowed; give avg, max, avgmax or ''."
        )
