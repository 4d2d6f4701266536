"""Multiply-adds of DINO and Mask2Former, whose heads cannot run without memory.

What their transformers do next hangs on values, such as the best proposals, and the meta device has
none. So the backbone and the neck are counted there, and the heads run for real, on a CPU and with
every weight and feature 0, because the counts do not depend on them.

Counted is what :class:`torch.utils.flop_counter.FlopCounterMode` sees: not the sampling of the
deformable attention, as no interpolation anywhere.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from revcol_backbone.analysis.flops import extract
from revcol_backbone.analysis.network_input import describe_batch

OTHER = 'other'  # what runs between the parts
_COUNTED_ON_META = ('backbone', 'neck')


def count_transformer_by_part(model: nn.Module, height: int, width: int) -> dict[str, int]:
    """Count the multiply-adds of one image of 3 channels through each part of the model.

    Args:
        model: A DINO, or a segmentor with a Mask2Former head, on the meta device and in evaluation
            mode. Its heads are moved to the CPU and emptied.
        height: Rows of the image.
        width: Columns of the image.

    Returns:
        The counts by the names of the parts in the model, and under :data:`OTHER` what runs
        between them. Post-processing is left out, as of every other model.
    """
    image = torch.empty(1, 3, height, width, device='meta')
    features, counts = extract(model, image)
    _put_zeros_on_cpu(model)
    features = tuple(torch.zeros(level.shape) for level in features)
    (meta,) = describe_batch(image)
    if hasattr(model, 'decode_head'):
        from mmseg.structures import SegDataSample

        samples = [SegDataSample(metainfo=meta)]
        return {**counts, **_count(model, lambda: model.decode_head(features, samples))}

    from mmdet.structures import DetDataSample

    def run() -> None:
        hidden = model.forward_transformer(features, [DetDataSample(metainfo=meta)])
        model.bbox_head(**hidden)

    return {**counts, **_count(model, run)}


def _put_zeros_on_cpu(model: nn.Module) -> None:
    for name, child in model.named_children():
        if name not in _COUNTED_ON_META:
            child.to_empty(device='cpu')
            for tensor in (*child.parameters(), *child.buffers()):
                tensor.detach().zero_()
    for name, parameter in list(model.named_parameters(recurse=False)):
        setattr(model, name, nn.Parameter(torch.zeros(parameter.shape)))


def _count(model: nn.Module, run: Callable[[], object]) -> dict[str, int]:
    """What each child counts while it is called, and the rest."""
    counts: dict[str, int] = {}
    handles = []
    with FlopCounterMode(display=False) as counter:
        for name, child in model.named_children():
            # Called again, a child adds: it counts from where the others stood.
            def start(_: nn.Module, __: tuple[Tensor, ...], name: str = name) -> None:
                counts[name] = counts.get(name, 0) - counter.get_total_flops()

            def end(_: nn.Module, __: tuple[Tensor, ...], ___: object, name: str = name) -> None:
                counts[name] += counter.get_total_flops()

            handles += [child.register_forward_pre_hook(start), child.register_forward_hook(end)]
        # Its fused kernels hide the matrix products of attention.
        was_fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            with torch.no_grad():
                run()
        finally:
            torch.backends.mha.set_fastpath_enabled(was_fast)
            for handle in handles:
                handle.remove()
    counts[OTHER] = counter.get_total_flops() - sum(counts.values())
    return {name: count // 2 for name, count in counts.items() if count}
