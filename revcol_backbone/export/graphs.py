"""The parts of a detector or segmentor that can be exported: tensors in, tensors out."""

from __future__ import annotations

import copy

import torch.nn.functional as F
from mmcv.cnn import fuse_conv_bn
from mmengine.model import BaseModel
from torch import Tensor, nn

from revcol_backbone.export.layers import replace_adaptive_pools, replace_long_up_branches
from revcol_backbone.ic.folding import fold_batch_norms

PARTS = ('backbone', 'segmentor', 'detector')


class BackboneGraph(nn.Module):
    """The backbone: normalized images (B, 3, H, W) to its levels.

    Args:
        model: A detector or segmentor.
    """

    def __init__(self, model: BaseModel) -> None:
        super().__init__()
        self.backbone = model.backbone
        self.out_indices = tuple(model.backbone.out_indices)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.backbone(image))

    def name_outputs(self, number: int) -> list[str]:
        """Return the names of ``number`` outputs."""
        return [f'level{index}' for index in self.out_indices]


class SegmentorGraph(nn.Module):
    """The whole segmentor: normalized images (B, 3, H, W) to logits (B, classes, H, W).

    Normalization, padding, sliding windows and the argmax are not part of it.

    Args:
        model: An ``EncoderDecoder`` of mmseg whose decode head classifies pixels, such as UPerNet.

    Raises:
        ValueError: It is another model.
    """

    def __init__(self, model: BaseModel) -> None:
        super().__init__()
        _check_segmentor(model)
        self.backbone = model.backbone
        self.neck = model.neck if model.with_neck else nn.Identity()
        self.decode_head = model.decode_head

    def forward(self, image: Tensor) -> Tensor:
        logits = self.decode_head(self.neck(self.backbone(image)))
        return F.interpolate(
            logits,
            size=image.shape[-2:],
            mode='bilinear',
            align_corners=self.decode_head.align_corners,
        )

    def name_outputs(self, number: int) -> list[str]:
        """Return the names of ``number`` outputs."""
        return ['logits']


class DetectorGraph(nn.Module):
    """Backbone and neck of a detector: normalized images (B, 3, H, W) to its feature pyramid.

    Args:
        model: A detector of mmdet with a neck.

    Raises:
        ValueError: It has none.
    """

    def __init__(self, model: BaseModel) -> None:
        super().__init__()
        if not getattr(model, 'with_neck', False) or hasattr(model, 'decode_head'):
            raise ValueError(
                f'{type(model).__name__} is not a detector with a neck; export `backbone` or '
                '`segmentor` instead.'
            )
        self.backbone = model.backbone
        self.neck = model.neck

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.neck(self.backbone(image)))

    def name_outputs(self, number: int) -> list[str]:
        """Return the names of ``number`` outputs."""
        return [f'pyramid{index}' for index in range(number)]


Graph = BackboneGraph | SegmentorGraph | DetectorGraph


def part_of(model: BaseModel, part: str) -> Graph:
    """Return a part of a model as a module with one input; it shares the weights of the model.

    Args:
        model: A detector or segmentor.
        part: One of :data:`PARTS`.

    Returns:
        The part in evaluation mode; its ``name_outputs`` returns the names of its outputs.

    Raises:
        ValueError: The model has no such part.
    """
    graphs: dict[str, type[Graph]] = {
        'backbone': BackboneGraph,
        'segmentor': SegmentorGraph,
        'detector': DetectorGraph,
    }
    return graphs[part](model).eval()


def make_exportable(graph: Graph, deploy: bool = True) -> Graph:
    """Return a copy of a part that computes the same and can be traced for any size.

    Args:
        graph: As returned by :func:`part_of`.
        deploy: Call :meth:`RevCol.switch_to_deploy`, and fold the batch norms of necks and heads,
            whose variances can be too large for float16, into their convolutions.
    """
    exportable = copy.deepcopy(graph)
    replace_adaptive_pools(exportable)
    replace_long_up_branches(exportable)
    if deploy:
        if hasattr(exportable.backbone, 'switch_to_deploy'):
            exportable.backbone.switch_to_deploy()
        for name, child in exportable.named_children():
            if name != 'backbone':
                fold_batch_norms(child)  # of IC units, which fuse_conv_bn would take for others
                fuse_conv_bn(child)
    return exportable.requires_grad_(False)


def parts_in_python(model: BaseModel) -> list[str]:
    """List the parts of a detector that are not exported."""
    exported = ('data_preprocessor', 'backbone', 'neck')
    return [
        f'{name} ({type(child).__name__})'
        for name, child in model.named_children()
        if name not in exported
    ]


def _check_segmentor(model: BaseModel) -> None:
    from mmseg.models.decode_heads.decode_head import BaseDecodeHead

    head = getattr(model, 'decode_head', None)
    if not isinstance(head, BaseDecodeHead):
        raise ValueError(
            f'{type(model).__name__} with {type(head).__name__} does not end in one map of logits; '
            'export `backbone`, or a segmentor such as UPerNet.'
        )
