"""Testing the network that will be deployed, without a change of the checkpoint."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class SwitchToDeployHook(Hook):
    """Call ``switch_to_deploy()`` of every module that has it, before a test begins.

    The checkpoint of the trained model is loaded before that, as it is. Add it by
    ``custom_hooks=[dict(type='SwitchToDeployHook')]``; validation during training is left alone.
    """

    def before_test(self, runner: Any) -> None:
        """Fold the model, once."""
        for module in list(runner.model.modules()):
            if hasattr(module, 'switch_to_deploy'):
                module.switch_to_deploy()
