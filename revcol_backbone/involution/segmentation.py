"""mmseg's FPN with involutions for its 3x3 convolutions.

Importing this module registers it in mmseg. Everything but the convolutions is mmseg's; the state
dict is that of the published segmentors.
"""

from __future__ import annotations

from mmseg.models.necks import FPN
from mmseg.registry import MODELS

from revcol_backbone.involution.replacement import InvolutionOutputs


@MODELS.register_module()
class InvolutionFPN(InvolutionOutputs, FPN):
    """mmseg's FPN with 7x7 involutions on its outputs (arXiv 2103.06255, section 4.3).

    The lateral 1x1 convolutions and the 3x3 convolutions of extra levels stay.

    Args:
        args, kwargs: As in mmseg's ``FPN``, except ``act_cfg``: an involution has no activation
            after it. ``norm_cfg`` also sets the normalization in the involutions.

    Raises:
        ValueError: ``act_cfg`` is given.
    """
