"""Parameters and multiply-adds of classifiers, detectors and segmentors, without their memory.

Multiply-adds are what the published tables call FLOPs: half of what
:class:`torch.utils.flop_counter.FlopCounterMode` counts. It sees convolutions, matrix products and
the involution, and omits normalization, activation, pooling, interpolation, RoIAlign and the
sampling of deformable attention. On the meta device nothing is allocated or computed, so that
RevCol-H fits any machine.

The transformers of DINO and Mask2Former depend on values, such as the best proposals, which the
meta device does not have. Their backbone and neck are counted there, and their heads run on a CPU
with all weights and features 0, because the counts do not depend on them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from revcol_backbone.analysis.network_input import describe_batch

# Regions through each box stage and each mask stage of a detector, in the published figures.
BOX_PROPOSALS, MASK_PROPOSALS = 1000, 100
CLASSES = 1000
OTHER = 'other'  # what runs between the parts
_COUNTED_ON_META = ('backbone', 'neck')


class Classifier(nn.Module):
    """A backbone with the head of ImageNet classifiers on its last output.

    Args:
        backbone: A module that returns a tuple of (B, C, H, W); the last one is classified.
        channels: C of the last output.
        with_norm: Normalize the pooled features by a LayerNorm, as RevCol does and RedNet does not.
    """

    def __init__(self, backbone: nn.Module, channels: int, with_norm: bool) -> None:
        super().__init__()
        self.backbone = backbone
        self.norm = nn.LayerNorm(channels) if with_norm else nn.Identity()
        self.head = nn.Linear(channels, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, 3, H, W) to (B, 1000)."""
        return self.head(self.norm(self.backbone(x)[-1].mean((2, 3))))


def build_on_meta(config: Config) -> BaseModel:
    """Build a config's model on the meta device, in evaluation mode."""
    scope = config.get('default_scope')
    with DefaultScope.overwrite_default_scope(scope), torch.device('meta'):
        model = MODELS.build(config.model)
    model.eval()  # mmdet's bare backbones do not return themselves
    return model


def count_parameters(model: nn.Module) -> int:
    """Count a model's parameters; buffers are none."""
    return sum(parameter.numel() for parameter in model.parameters())


def model_multiply_adds(model: BaseModel, height: int, width: int) -> int:
    """Count the multiply-adds of one image; arguments and errors of :func:`count_by_part`."""
    return sum(count_by_part(model, height, width).values())


def count_by_part(model: BaseModel, height: int, width: int) -> dict[str, int]:
    """Count the multiply-adds of one image of 3 channels through each part of the model.

    A classifier or a bare backbone, and a segmentor with its auxiliary heads, run once. Of a
    two-stage detector, the backbone, neck, RPN and semantic branch run once, 1,000 proposals go
    through each box stage and 100 through each mask stage; a one-stage detector runs once.

    Args:
        model: The model, on the meta device and in evaluation mode.
        height: Rows of the image.
        width: Columns of the image.

    Returns:
        The counts by the names of the parts in the model; a bare backbone is ``backbone``.

    Raises:
        ValueError: The model is of a kind that this convention does not cover.
    """
    image = torch.empty(1, 3, height, width, device='meta')
    if has_transformer(model):
        raise ValueError(
            f'{type(model).__name__} has a transformer, which the published counts do not cover.'
        )
    if hasattr(model, 'roi_head'):
        return _count_two_stage(model, image)
    if hasattr(model, 'decode_head'):
        return _count_segmentor(model, image)
    if hasattr(model, 'bbox_head'):
        features, counts = _extract(model, image)
        return {**counts, 'bbox_head': _run_counted(model.bbox_head, features)[1]}
    return {'backbone': _run_counted(model, image)[1]}


def has_transformer(model: nn.Module) -> bool:
    """Whether the model is one of DETR's kind (DINO) or MaskFormer's (Mask2Former)."""
    return hasattr(model, 'encoder') or hasattr(
        getattr(model, 'decode_head', None), 'pixel_decoder'
    )


def count_transformer_by_part(model: BaseModel, height: int, width: int) -> dict[str, int]:
    """Count the multiply-adds of one image of 3 channels through each part of the model.

    Args:
        model: A DINO, or a segmentor with a Mask2Former head, on the meta device and in evaluation
            mode. Its heads are moved to the CPU and emptied.
        height: Rows of the image.
        width: Columns of the image.

    Returns:
        The counts by the names of the parts in the model, and under :data:`OTHER` what runs
        between them. Post-processing is not counted, as for every other model.
    """
    image = torch.empty(1, 3, height, width, device='meta')
    features, counts = _extract(model, image)
    _put_zeros_on_cpu(model)
    features = tuple(torch.zeros(level.shape) for level in features)
    (meta,) = describe_batch(image)
    if hasattr(model, 'decode_head'):
        from mmseg.structures import SegDataSample

        samples = [SegDataSample(metainfo=meta)]
        return {**counts, **_count_children(model, lambda: model.decode_head(features, samples))}

    from mmdet.structures import DetDataSample

    def run() -> None:
        hidden = model.forward_transformer(features, [DetDataSample(metainfo=meta)])
        model.bbox_head(**hidden)

    return {**counts, **_count_children(model, run)}


def _extract(model: BaseModel, image: Tensor) -> tuple[tuple[Tensor, ...], dict[str, int]]:
    """Run backbone and neck; returns the features and the counts of both."""
    features: Any = image
    counts: dict[str, int] = {}
    for name in ('backbone', 'neck'):
        part = getattr(model, name, None)
        if part is not None:
            features, counts[name] = _run_counted(part, features)
    return features, counts


def _count_two_stage(model: BaseModel, image: Tensor) -> dict[str, int]:
    features, counts = _extract(model, image)
    counts['rpn_head'] = _run_counted(model.rpn_head, features)[1]
    roi_head = model.roi_head
    if getattr(roi_head, 'with_semantic', False):
        counts['roi_head.semantic_head'] = _run_counted(roi_head.semantic_head, features)[1]
    parts = [('bbox', BOX_PROPOSALS)]
    if roi_head.with_mask:
        parts.append(('mask', MASK_PROPOSALS))
    for kind, proposals in parts:
        heads = _stages(getattr(roi_head, f'{kind}_head'))
        extractors = _stages(getattr(roi_head, f'{kind}_roi_extractor'))
        count, result = 0, None
        for head, extractor in zip(heads, extractors, strict=True):
            size = extractor.roi_layers[0].output_size
            regions = image.new_empty(proposals, extractor.out_channels, *size)
            # HTC's later mask stages take the features of the stage before.
            earlier = result[1:] if getattr(head, 'with_conv_res', False) and result else ()
            result, stage = _run_counted(head, regions, *earlier)
            count += stage
        counts[f'roi_head.{kind}_head'] = count
    return counts


def _count_segmentor(model: BaseModel, image: Tensor) -> dict[str, int]:
    features, counts = _extract(model, image)
    counts['decode_head'] = _run_counted(model.decode_head, features)[1]
    if model.with_auxiliary_head:
        heads = _stages(model.auxiliary_head)
        counts['auxiliary_head'] = sum(_run_counted(head, features)[1] for head in heads)
    return counts


def _stages(module: nn.Module) -> list[Any]:
    return list(module) if isinstance(module, nn.ModuleList) else [module]


def _run_counted(run: Callable, *arguments: object) -> tuple[Any, int]:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        result = run(*arguments)
    return result, counter.get_total_flops() // 2


def _put_zeros_on_cpu(model: nn.Module) -> None:
    for name, child in model.named_children():
        if name not in _COUNTED_ON_META:
            child.to_empty(device='cpu')
            for tensor in (*child.parameters(), *child.buffers()):
                tensor.detach().zero_()
    for name, parameter in list(model.named_parameters(recurse=False)):
        setattr(model, name, nn.Parameter(torch.zeros(parameter.shape)))


def _count_children(model: nn.Module, run: Callable[[], object]) -> dict[str, int]:
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
