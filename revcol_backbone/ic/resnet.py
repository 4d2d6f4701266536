"""What the IC-ResNets of every library add to its ResNets."""

from __future__ import annotations

import torch
from mmengine.model import BaseModule, initialize
from torch import nn

from revcol_backbone.ic.basic_checkpoint import load_basic
from revcol_backbone.ic.conv import ICConv2d
from revcol_backbone.ic.folding import fold_batch_norms, fuse_convolutions
from revcol_backbone.ic.replacement import is_3x3, replace_convolutions
from revcol_backbone.ic.start import DEFAULT_START

CHOICES = {'3x3': is_3x3, 'all': lambda name, conv: True}


class CollisionUnits(BaseModule):
    """Put before a ResNet, turns its convolutions into :class:`ICConv2d`.

    Nothing else changes: features, arguments and the names of the weights are the ResNet's.
    The stem's convolutions are never replaced.

    Args:
        args, kwargs: As for the ResNet. ``conv_cfg`` and ``dcn`` must be omitted, because the
            convolutions they name would be other units. ``init_cfg=dict(type='Pretrained',
            checkpoint=...)`` loads an IC-ResNet or, as the basic model, an ordinary ResNet, and
            fails if it does not fit.
        ic_convolutions: ``'3x3'`` (default) replaces the 3x3 convolutions, one a bottleneck and two
            a basic block; ``'all'`` replaces the 1x1 convolutions too, those of shortcuts included.
        collision_start, collision_gain: As of :class:`ICConv2d`.
        deploy: Build the network as :meth:`switch_to_deploy` leaves it, to load weights that were
            saved after it. Default ``False``.

    Raises:
        ValueError: An argument is out of range; the message says what is allowed.
    """

    def __init__(
        self,
        *args,
        ic_convolutions: str = '3x3',
        collision_start: float | str = DEFAULT_START,
        collision_gain: bool = False,
        deploy: bool = False,
        **kwargs,
    ) -> None:
        own = type(self).__name__
        if ic_convolutions not in CHOICES:
            raise ValueError(
                f'{own} ic_convolutions={ic_convolutions!r} is not allowed; give one of '
                f'{", ".join(map(repr, CHOICES))}.'
            )
        depth = kwargs.get('depth', args[0] if args else None)
        if depth not in self.arch_settings:
            raise ValueError(
                f'{own} depth={depth!r} is not allowed; give one of '
                f'{", ".join(map(str, self.arch_settings))}.'
            )
        for name in ('conv_cfg', 'dcn'):
            if kwargs.get(name) is not None:
                raise ValueError(
                    f'{own} {name}={kwargs[name]!r} is not allowed: its convolutions are '
                    f'ICConv2d; leave {name} out.'
                )
        super().__init__(*args, **kwargs)
        for name in self.res_layers:
            replace_convolutions(
                getattr(self, name),
                CHOICES[ic_convolutions],
                collision_start=collision_start,
                collision_gain=collision_gain,
            )
        self.deploy = False
        if deploy:
            self.switch_to_deploy()

    def init_weights(self) -> None:
        """Load the checkpoint of ``init_cfg``, or draw the initial weights as the ResNet does."""
        given = self.init_cfg if isinstance(self.init_cfg, list) else [self.init_cfg or {}]
        pretrained = [cfg for cfg in given if cfg.get('type') == 'Pretrained']
        if not pretrained:
            super().init_weights()
            # The weights are new, and with them their means.
            for module in self.modules():
                if isinstance(module, ICConv2d):
                    module.reset_collision()
            return
        initialize(self, [cfg for cfg in given if cfg not in pretrained])
        for cfg in pretrained:
            load_basic(self, cfg['checkpoint'], cfg.get('prefix'))
        self._is_init = True

    def train(self, mode: bool = True) -> nn.Module:
        """Switch between training and evaluation; frozen parts stay in evaluation mode.

        Raises:
            RuntimeError: Training is asked of a deployed model.
        """
        if mode and getattr(self, 'deploy', False):
            raise RuntimeError(
                f'this {type(self).__name__} was switched to deploy and cannot be trained; build '
                'it anew with deploy=False and load the trained checkpoint.'
            )
        super().train(mode)  # mmdet's returns nothing
        return self

    @torch.no_grad()
    def switch_to_deploy(self) -> None:
        """Fold the trained network into a faster one for inference alone; again changes nothing.

        Every batch norm goes into the convolution or the unit before it. Outputs are equal up to
        rounding; the state dict has fewer keys, which a model built with ``deploy=True`` loads. The
        model cannot be trained afterwards.
        """
        if self.deploy:
            return
        self.eval()
        fold_batch_norms(self)
        fuse_convolutions(self)
        self.deploy = True
        # Frozen stages and norm_eval have nothing left to do.
        self.frozen_stages, self.norm_eval = -1, False
        self.requires_grad_(False).eval()
