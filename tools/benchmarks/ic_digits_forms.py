"""The forms of the unit that ic_digits.py compares, and the classifier that is built of each."""

from __future__ import annotations

from mmdet.models.backbones.resnet import BasicBlock
from torch import Tensor, nn
from torch.nn.utils import parametrize

from revcol_backbone.ic import ICConv2d
from revcol_backbone.ic.detection import ICResNet
from revcol_backbone.ic.windows import sum_channels, sum_windows

PLAIN = 'ResNet-18'
DEFAULT = "IC, w' from 0"
# Arguments of ICResNet; None is the basic model. `shared` and `norm_first` are of this comparison.
FORMS: dict[str, dict | None] = {
    PLAIN: None,
    DEFAULT: dict(collision_start=0.0),
    "IC, w' from the mean": dict(collision_start='mean'),
    "IC, w' from 1": dict(collision_start=1.0),
    "IC, w' from 0, one w' a layer": dict(collision_start=0.0, shared=True),
    "IC, w' from 0, BN before the term": dict(collision_start=0.0, norm_first=True),
    "IC, w' from 0, all convolutions": dict(collision_start=0.0, ic_convolutions='all'),
    "IC, w' from 0, gain from 0": dict(collision_start=0.0, collision_gain=True),
}
# What a trained basic model is loaded into.
LOADING_FORMS = (
    DEFAULT,
    "IC, w' from the mean",
    "IC, w' from 1",
    "IC, w' from 0, gain from 0",
)


def build_classifier(form: str, width: int) -> nn.Sequential:
    """Build a ResNet-18 for digits in one of the forms.

    Args:
        form: A key of :data:`FORMS`.
        width: Channels of the first stage; the usual number is 64.
    """
    settings = dict(FORMS[form] or {})
    is_shared, is_norm_first = settings.pop('shared', False), settings.pop('norm_first', False)
    backbone = ICResNet(
        18, base_channels=width, norm_eval=False, out_indices=(3,), in_channels=1, **settings
    )
    if FORMS[form] is None:
        make_plain(backbone)
    backbone.init_weights()
    for module in list(backbone.modules()):
        if is_shared and isinstance(module, ICConv2d):
            parametrize.register_parametrization(module, 'collision_weight', SharedValue())
        if is_norm_first and isinstance(module, BasicBlock):
            for conv, norm in (('conv1', module.norm1_name), ('conv2', module.norm2_name)):
                setattr(module, conv, NormFirst(getattr(module, conv), getattr(module, norm)))
                setattr(module, norm, nn.Identity())
    head = nn.Linear(8 * width, 10)
    return nn.Sequential(backbone, Last(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)


def make_plain(model: nn.Module) -> None:
    """Turn units back into ordinary convolutions with the same weights."""
    for name, unit in list(model.named_modules()):
        if isinstance(unit, ICConv2d):
            conv = nn.Conv2d(
                unit.in_channels,
                unit.out_channels,
                unit.kernel_size,
                unit.stride,
                unit.padding,
                bias=False,
            )
            conv.weight = unit.weight
            parent, _, own = name.rpartition('.')
            setattr(model.get_submodule(parent), own, conv)


class SharedValue(nn.Module):
    """Makes one value of all channels' values, their mean."""

    def forward(self, values: Tensor) -> Tensor:
        return values.mean().expand_as(values)


class NormFirst(nn.Module):
    """A unit whose batch norm stands between the convolution and the collision term."""

    def __init__(self, unit: ICConv2d, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.unit, self.norm = unit, norm

    def forward(self, x: Tensor) -> Tensor:
        unit = self.unit
        u = self.norm(unit._conv_forward(x, unit.weight, None))
        sums = sum_windows(sum_channels(x, unit.groups), unit)
        weight, bias = (p.view(-1, 1, 1) for p in (unit.collision_weight, unit.collision_bias))
        return u + (u - weight * sums + bias).relu()


class Last(nn.Module):
    """Takes the last of a backbone's outputs."""

    def forward(self, features: tuple[Tensor, ...]) -> Tensor:
        return features[-1]
