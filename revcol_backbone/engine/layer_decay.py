"""Layer-wise learning-rate decay for detectors and segmentors with a RevCol backbone."""

from __future__ import annotations

from dataclasses import dataclass, field

from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

from revcol_backbone.columns_backbone import ColumnsBackbone


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class RevColLayerDecayOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Parameter groups whose learning rate decays from the heads towards the stem.

    With D blocks in a column and N columns, a parameter with layer id ``i`` (see
    :meth:`.Architecture.layer_id`) learns at ``lr * decay_rate ** (D + N - i)``; D and N are read
    off the model. Parameters outside the backbone, and those a subclass adds beyond RevCol's
    published layout, have the id D + N and learn at ``lr``. 1-D parameters, biases, position
    embeddings and RevCol's ``alpha`` get no weight decay.

    Frozen parameters are in no group; a parameter shared under several names is taken once.

    Args:
        optim_wrapper_cfg: Config of the optimizer wrapper; its ``optimizer`` must set ``lr``.
        paramwise_cfg: ``dict(decay_rate=float)``, above 0 and at most 1; 1 means no decay. With
            ``decay_alpha=True`` beside it, as in the published pre-training, ``alpha`` gets weight
            decay; default ``False``.

    Raises:
        ValueError: ``paramwise_cfg`` has another form, or ``lr`` is missing; on building, the
            model has no RevCol backbone.
    """

    def _validate_cfg(self) -> None:
        if set(self.paramwise_cfg) - {'decay_alpha'} != {'decay_rate'}:
            raise ValueError(
                f'{type(self).__name__} got paramwise_cfg={self.paramwise_cfg!r}; it takes '
                'decay_rate and may take decay_alpha, as in paramwise_cfg=dict(decay_rate=0.85).'
            )
        rate = self.paramwise_cfg['decay_rate']
        if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 < rate <= 1:
            raise ValueError(
                f'{type(self).__name__} got decay_rate={rate!r}; give a number above 0 and at '
                'most 1, where 1 means no decay.'
            )
        if self.base_lr is None:
            raise ValueError(
                f'{type(self).__name__} scales the learning rate, but the optimizer config sets '
                'none; add lr to it.'
            )

    def add_params(self, params: list[dict], module: nn.Module, **kwargs) -> None:
        """Append the parameter groups of ``module``, the stem's first, to ``params``."""
        layers = _backbone_layers(module)
        groups: dict[tuple[int, bool], _Group] = {}
        frozen = 0
        for name, parameter in module.named_parameters():
            if not parameter.requires_grad:
                frozen += 1
                continue
            id_, distance = layers.get(parameter, (None, 0))
            is_alpha = id_ is not None and name.rpartition('.')[2].startswith('alpha')
            decays = parameter.ndim > 1 and not name.endswith(('bias', 'position_embedding'))
            decays = decays and not (is_alpha and not self.paramwise_cfg.get('decay_alpha', False))
            # At a rate of 1 all layers learn alike and share a group.
            key = (0 if self.paramwise_cfg['decay_rate'] == 1 else distance, decays)
            group = groups.setdefault(key, _Group())
            group.ids.add(id_)
            group.names.append(name)
            group.parameters.append(parameter)
        for distance, decays in sorted(groups, key=lambda key: (-key[0], not key[1])):
            params.append(self._param_group(groups[distance, decays], distance, decays))
            print_log(_describe(params[-1]), logger='current')
        if frozen:
            print_log(f'{frozen} frozen tensors are in no parameter group', logger='current')

    def _param_group(self, group: _Group, distance: int, decays: bool) -> dict:
        scale = self.paramwise_cfg['decay_rate'] ** distance
        options = {
            'params': group.parameters,
            'param_names': group.names,
            'group_name': f'{group.layers()}_{"decay" if decays else "no_decay"}',
            'lr_scale': scale,
            'lr': self.base_lr * scale,
        }
        if not decays:
            options['weight_decay'] = 0.0
        elif self.base_wd is not None:
            options['weight_decay'] = self.base_wd
        return options


@dataclass
class _Group:
    ids: set[int | None] = field(default_factory=set)
    names: list[str] = field(default_factory=list)
    parameters: list[nn.Parameter] = field(default_factory=list)

    def layers(self) -> str:
        """Such as ``layer3``, ``layers0-17_and_heads`` or ``heads``."""
        ids = sorted(id_ for id_ in self.ids if id_ is not None)
        if not ids:
            return 'heads'
        span = f'layer{ids[0]}' if len(ids) == 1 else f'layers{ids[0]}-{ids[-1]}'
        return f'{span}_and_heads' if None in self.ids else span


def _backbone_layers(model: nn.Module) -> dict[nn.Parameter, tuple[int, int]]:
    """For every backbone parameter its layer id and its distance D + N - id from the heads."""
    backbones = [module for module in model.modules() if isinstance(module, ColumnsBackbone)]
    if not backbones:
        raise ValueError(
            f'RevColLayerDecayOptimWrapperConstructor found no RevCol in {type(model).__name__}; '
            "use backbone=dict(type='RevCol', ...) or another optim_wrapper constructor."
        )
    layers = {}
    for backbone in backbones:
        last = sum(backbone.arch.layers) + backbone.columns
        for name, parameter in backbone.named_parameters():
            id_ = backbone.arch.layer_id(name)
            if id_ is not None:
                layers[parameter] = (id_, last - id_)
    return layers


def _describe(group: dict) -> str:
    decay = group.get('weight_decay', "the optimizer's default")
    return (
        f'Parameter group {group["group_name"]}: {len(group["params"])} tensors, '
        f'lr {group["lr"]:.4g} (scale {group["lr_scale"]:.4g}), weight decay {decay}'
    )
