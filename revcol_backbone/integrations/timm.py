"""RevCol through timm: ``timm.create_model('revcol_tiny')`` once this module is imported.

Importing :mod:`revcol_backbone` does not import this module, so that timm stays optional.
"""

from __future__ import annotations

from typing import Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import nn

from revcol_backbone.checkpoints.sources import PUBLISHED
from revcol_backbone.integrations.timm_model import (
    IMAGENET_CLASSES,
    RevColClassifier,
    fit_weights,
)
from revcol_backbone.variants import LEVELS, VARIANTS

# RevCol-XL's weights were not published.
_PRETRAINED = {
    'tiny': 'revcol_tiny_1k.pth',
    'small': 'revcol_small_1k.pth',
    'base': 'revcol_base_1k.pth',
    'large': 'revcol_large_22k_1kft_224.pth',
    'huge': 'revcol_huge_megdata_in1k.pth',
}


def _default_cfg(arch: str) -> dict[str, Any]:
    name = _PRETRAINED.get(arch)
    return {
        'url': PUBLISHED[name] if name else '',
        'custom_load': True,
        'num_classes': IMAGENET_CLASSES,
        'input_size': (3, 224, 224),
        'pool_size': (7, 7),
        'crop_pct': 0.875,
        'interpolation': 'bicubic',
        'mean': IMAGENET_DEFAULT_MEAN,
        'std': IMAGENET_DEFAULT_STD,
        'first_conv': 'backbone.stem.0',
        'classifier': 'cls.fc',
        'license': 'apache-2.0',
        'paper_ids': 'arXiv:2212.11696',
        'paper_name': 'Reversible Column Networks',
        'origin_url': 'https://github.com/megvii-research/RevCol',
    }


default_cfgs = generate_default_cfgs(
    {f'revcol_{arch}.untagged': _default_cfg(arch) for arch in VARIANTS}
)


def _create(arch: str, pretrained: bool, **kwargs: Any) -> nn.Module:
    if kwargs.get('features_only'):
        kwargs['num_classes'] = 0
    return build_model_with_cfg(
        RevColClassifier,
        f'revcol_{arch}',
        pretrained,
        pretrained_filter_fn=fit_weights,
        feature_cfg={'out_indices': tuple(range(LEVELS)), 'feature_cls': 'getter'},
        arch=arch,
        **kwargs,
    )


@register_model
def revcol_tiny(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """RevCol-T; arguments of :class:`RevColClassifier`, or ``features_only``, ``out_indices``."""
    return _create('tiny', pretrained, **kwargs)


@register_model
def revcol_small(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """RevCol-S; arguments as for :func:`revcol_tiny`."""
    return _create('small', pretrained, **kwargs)


@register_model
def revcol_base(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """RevCol-B; arguments as for :func:`revcol_tiny`."""
    return _create('base', pretrained, **kwargs)


@register_model
def revcol_large(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """RevCol-L; arguments as for :func:`revcol_tiny`."""
    return _create('large', pretrained, **kwargs)


@register_model
def revcol_xlarge(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """RevCol-XL; arguments as for :func:`revcol_tiny`."""
    return _create('xlarge', pretrained, **kwargs)


@register_model
def revcol_huge(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """RevCol-H; arguments as for :func:`revcol_tiny`."""
    return _create('huge', pretrained, **kwargs)
