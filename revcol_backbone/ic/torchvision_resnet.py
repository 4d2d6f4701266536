"""torchvision's ResNet as a backbone, for where no library of OpenMMLab is installed."""

from __future__ import annotations

from collections.abc import Iterator

from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

WIDTHS = (64, 128, 256, 512)


class StagedResNet(ResNet, BaseModule):
    """ResNet without its classifier, with the arguments and the defaults of mmdet's.

    The names of the weights are those of torchvision and of mmdet, which are the same.

    Args:
        depth: 18, 34, 50, 101 or 152.
        out_indices: Stages to return, of 0, 1, 2, 3. Default all.
        frozen_stages: -1 (default) freezes nothing, 0 the stem, n the stem and the first n stages:
            they stay in evaluation mode and get no gradients.
        norm_eval: Keep all batch norms in evaluation mode. Default yes.
        init_cfg: As of mmengine's ``BaseModule``; the class that is put before this one loads it.
    """

    arch_settings = {
        18: (BasicBlock, (2, 2, 2, 2)),
        34: (BasicBlock, (3, 4, 6, 3)),
        50: (Bottleneck, (3, 4, 6, 3)),
        101: (Bottleneck, (3, 4, 23, 3)),
        152: (Bottleneck, (3, 8, 36, 3)),
    }
    res_layers = ('layer1', 'layer2', 'layer3', 'layer4')

    def __init__(
        self,
        depth: int,
        out_indices: tuple[int, ...] = (0, 1, 2, 3),
        frozen_stages: int = -1,
        norm_eval: bool = True,
        init_cfg: dict | None = None,
    ) -> None:
        if frozen_stages not in range(-1, len(WIDTHS) + 1):
            raise ValueError(
                f'{type(self).__name__} frozen_stages={frozen_stages!r} is not allowed; give a '
                f'number from -1 to {len(WIDTHS)}.'
            )
        block, layers = self.arch_settings[depth]
        super().__init__(block, list(layers), zero_init_residual=True)
        del self.avgpool, self.fc
        self.channels = tuple(width * block.expansion for width in WIDTHS)
        self.out_indices = out_indices
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.init_cfg = init_cfg

    def init_weights(self) -> None:
        """Keep the weights, which torchvision draws when the network is built."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the stages of ``out_indices``, strides 4 to 32, of images (B, 3, H, W)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        stages = []
        for name in self.res_layers:
            x = getattr(self, name)(x)
            stages.append(x)
        return tuple(stages[index] for index in self.out_indices)

    def train(self, mode: bool = True) -> StagedResNet:
        """Switch between training and evaluation; frozen parts stay in evaluation mode."""
        super().train(mode)
        for module in self._frozen_modules():
            module.eval().requires_grad_(False)
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def _frozen_modules(self) -> Iterator[nn.Module]:
        if self.frozen_stages >= 0:
            yield self.conv1
            yield self.bn1
        for name in self.res_layers[: max(self.frozen_stages, 0)]:
            yield getattr(self, name)
