"""RedNet: ResNets of involutions, as a backbone."""

from __future__ import annotations

from typing import cast

from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from revcol_backbone.involution.bottleneck import BLOCKS, EXPANSION, Bottleneck
from revcol_backbone.involution.involution import Involution, build_norm, conv_norm_relu
from revcol_backbone.involution.rednet_checkpoint import check_stem, load_rednet

STEM_CHANNELS = 64
WIDTHS = (64, 128, 256, 512)
STRIDES = (1, 2, 2, 2)
STEM_KERNEL_SIZES = (3, 7)


@MODELS.register_module()
class RedNet(BaseModule):
    """RedNet, arXiv 2103.06255, as a backbone with the conventions of mmdet's ResNet.

    The state dict is that of the published models. Loading weights whose stem involution has
    another kernel size is an error, also where other mismatches are only reported.

    Args:
        depth: 26, 38, 50, 101 or 152.
        in_channels: Channels of the images. Default 3.
        stem_kernel_size: Kernel size of the stem's involution, 3 (default) or 7: 3 in the released
            classification code, 7 in the released detection and segmentation code. Which of the
            published files has which is told in ``docs/involution.md``.
        out_indices: Stages to return, of 0, 1, 2, 3. Default all.
        frozen_stages: -1 (default) freezes nothing, 0 the stem, n the stem and the first n stages:
            they stay in evaluation mode and get no gradients.
        norm_cfg: ``dict(type='BN')`` or ``dict(type='SyncBN')``, with ``requires_grad`` and other
            settings as in mmdet. Default ``dict(type='BN', requires_grad=True)``.
        involution_norm_cfg: The same for the stem and the inside of the involutions; ``None``
            (default) means ``norm_cfg``. The published segmentors have plain BN there and SyncBN
            elsewhere.
        norm_eval: Keep all batch normalizations in evaluation mode. Default yes.
        with_cp: Recompute the blocks in the backward pass instead of keeping their activations.
        zero_init_residual: Let every block start as its shortcut, where no checkpoint is loaded.
        init_cfg: ``dict(type='Pretrained', checkpoint=FILE_OR_URL)`` loads published weights, and
            fails if they do not fit; other types as in mmengine. By default He initialization.

    Raises:
        ValueError: An argument is out of range; the message says what is allowed.
    """

    def __init__(
        self,
        depth: int,
        in_channels: int = 3,
        stem_kernel_size: int = 3,
        out_indices: tuple[int, ...] = (0, 1, 2, 3),
        frozen_stages: int = -1,
        norm_cfg: dict | None = None,
        involution_norm_cfg: dict | None = None,
        norm_eval: bool = True,
        with_cp: bool = False,
        zero_init_residual: bool = True,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg or _he_initialization())
        _check_choice('depth', depth, tuple(BLOCKS))
        _check_choice('stem_kernel_size', stem_kernel_size, STEM_KERNEL_SIZES)
        _check_choice('frozen_stages', frozen_stages, tuple(range(-1, len(WIDTHS) + 1)))
        self.depth = depth
        self.stem_kernel_size = stem_kernel_size
        self.out_indices = _check_out_indices(out_indices)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.zero_init_residual = zero_init_residual

        self.stem = _stem(in_channels, stem_kernel_size, involution_norm_cfg or norm_cfg)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        channels = STEM_CHANNELS
        for stage, (blocks, width, stride) in enumerate(
            zip(BLOCKS[depth], WIDTHS, STRIDES, strict=True), start=1
        ):
            layer = nn.Sequential()
            for index in range(blocks):
                block_stride = stride if index == 0 else 1
                block = Bottleneck(
                    channels, width, block_stride, norm_cfg, involution_norm_cfg, with_cp
                )
                layer.append(block)
                channels = width * EXPANSION
            self.add_module(f'layer{stage}', layer)
        for module in self._frozen_modules():
            module.requires_grad_(False)
        self.register_load_state_dict_pre_hook(_refuse_other_stem)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the chosen stages.

        Args:
            x: Images (B, in_channels, H, W) of any size.

        Returns:
            For each of ``out_indices`` a tensor (B, C, H / s, W / s), rounded up, with C = 256,
            512, 1024, 2048 and s = 4, 8, 16, 32.
        """
        x = self.maxpool(self.stem(x))
        features = []
        for stage in range(len(WIDTHS)):
            x = getattr(self, f'layer{stage + 1}')(x)
            features.append(x)
        return tuple(features[index] for index in self.out_indices)

    def init_weights(self) -> None:
        """Load the checkpoint of ``init_cfg``, or draw the initial weights."""
        if isinstance(self.init_cfg, dict) and self.init_cfg.get('type') == 'Pretrained':
            load_rednet(self, self.init_cfg['checkpoint'], self.init_cfg.get('prefix'))
            self._is_init = True
            return
        super().init_weights()
        if self.zero_init_residual:
            for module in self.modules():
                if isinstance(module, Bottleneck):
                    nn.init.zeros_(module.bn3.get_parameter('weight'))

    def train(self, mode: bool = True) -> RedNet:
        """Switch between training and evaluation; frozen parts stay in evaluation mode."""
        super().train(mode)
        for module in self._frozen_modules():
            module.eval()
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def _frozen_modules(self) -> list[nn.Module]:
        if self.frozen_stages < 0:
            return []
        return [self.stem, *(getattr(self, f'layer{i + 1}') for i in range(self.frozen_stages))]


def _stem(in_channels: int, kernel_size: int, norm_cfg: dict | None) -> nn.Sequential:
    half = STEM_CHANNELS // 2
    return nn.Sequential(
        conv_norm_relu(in_channels, half, 3, 2, norm_cfg),
        Involution(half, kernel_size, 1, norm_cfg),
        build_norm(norm_cfg, half),
        nn.ReLU(inplace=True),
        conv_norm_relu(half, STEM_CHANNELS, 3, 1, norm_cfg),
    )


def _he_initialization() -> list[dict]:
    return [
        dict(type='Kaiming', layer='Conv2d'),
        dict(type='Constant', val=1, layer=['_BatchNorm', 'GroupNorm']),
    ]


def _refuse_other_stem(module: RedNet, state_dict: dict, prefix: str, *args: object) -> None:
    """Keep loaders that skip what does not fit from leaving the stem at random."""
    check_stem(cast(Involution, module.stem[1]), state_dict, prefix)


def _check_choice(name: str, value: object, allowed: tuple[int, ...]) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value not in allowed:
        raise ValueError(
            f'RedNet {name}={value!r} is not allowed; give one of {", ".join(map(str, allowed))}.'
        )


def _check_out_indices(out_indices: tuple[int, ...]) -> tuple[int, ...]:
    is_sequence = isinstance(out_indices, (tuple, list))
    if not is_sequence or not out_indices or not all(map(_is_stage, out_indices)):
        raise ValueError(
            f'RedNet out_indices={out_indices!r} is not allowed; give one or more of 0, 1, 2, 3.'
        )
    if len(set(out_indices)) != len(out_indices):
        raise ValueError(f'RedNet out_indices={out_indices!r} names a stage twice; name it once.')
    return tuple(out_indices)


def _is_stage(index: object) -> bool:
    return isinstance(index, int) and not isinstance(index, bool) and 0 <= index < len(WIDTHS)
