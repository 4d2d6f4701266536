"""Hooks that change which weights a run loads and which network a test runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import BaseLoop
from torch.distributed.fsdp import FullyShardedDataParallel

from revcol_backbone.checkpoints.finetuned import fit_weights, read_without_code
from revcol_backbone.checkpoints.reading import weights_entry
from revcol_backbone.checkpoints.state_dict import shapes_of
from revcol_backbone.revcol import RevCol

# What the keys of a backbone begin with: in a detector or segmentor, and in a RevColClassifier.
BACKBONE = ('backbone.', 'stem.', 'subnet')


@HOOKS.register_module()
class FineTunedCheckpointHook(Hook):
    """Make ``mim test --checkpoint`` take fine-tuned files of mmdet 2.x / 3.x, mmseg 0.x / 1.x.

    - A local file is read by :func:`~revcol_backbone.checkpoints.reading.read_checkpoint`, so that
      Python objects that older versions saved beside the weights neither stop it nor run.
    - Weights under names of an older version get their present ones; the log says which.
    - In a test, and when training is resumed, a file that lacks a weight of the model, has others,
      or has one of another shape, is an error. Where training starts from ``load_from``, heads may
      differ, as for another number of classes; the backbone has to be there whole.

    Files made by the installed versions load as without this hook.
    """

    priority = 'LOW'  # after a hook for moving averages has chosen the weights

    def before_run(self, runner: Any) -> None:
        """Let the file that is about to be loaded be read without running code from it."""
        if runner._load_from and not runner._resume:
            read_without_code(runner._load_from)

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Rename old keys in a checkpoint and check that it fits.

        Raises:
            ValueError: It does not; the message has every kind of mismatch with the first keys.
        """
        source = Path(runner._load_from or 'The checkpoint')
        expected = _expected_shapes(runner)
        if expected is None:
            return
        entry = weights_entry(checkpoint, source)
        stored = checkpoint if entry is None else checkpoint[entry]
        is_new_training = isinstance(runner._train_loop, BaseLoop) and not runner._resume
        only = BACKBONE if is_new_training else ''
        weights = fit_weights(stored, expected, source, runner.logger, only)
        if entry != 'state_dict' or weights.keys() != stored.keys():
            if hasattr(stored, '_metadata'):
                vars(weights)['_metadata'] = stored._metadata
            checkpoint['state_dict'] = weights


@HOOKS.register_module()
class SwitchToDeployHook(Hook):
    """Call ``switch_to_deploy()`` of every module that has it, before a test begins.

    The checkpoint of the trained model is loaded before that, as it is. Add it by
    ``custom_hooks=[dict(type='SwitchToDeployHook')]``; validation during training is left alone.

    Args:
        native: Compile the blocks of every RevCol, as ``RevCol.switch_to_deploy`` describes.
            Default ``False``.
    """

    def __init__(self, native: bool = False) -> None:
        self.native = native

    def before_test(self, runner: Any) -> None:
        """Fold the model, once.

        Raises:
            ValueError: ``native`` is set for a model without a RevCol.
        """
        modules = list(runner.model.modules())
        if self.native and not any(isinstance(module, RevCol) for module in modules):
            raise ValueError(
                'SwitchToDeployHook(native=True) found no RevCol in the model; omit native.'
            )
        for module in modules:
            if isinstance(module, RevCol):
                module.switch_to_deploy(native=self.native)
            elif hasattr(module, 'switch_to_deploy'):
                module.switch_to_deploy()


def _expected_shapes(runner: Any) -> dict[str, tuple[int, ...]] | None:
    """Of every entry of the whole model; ``None`` where sharding has hidden them."""
    model = runner.model
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        if isinstance(model, FullyShardedDataParallel):
            # `FSDPStrategy` of mmengine does not keep them, `RevColFSDPStrategy` does.
            return getattr(runner.strategy, 'whole_shapes', None)
        model = model.module
    return shapes_of(model.state_dict())
