"""mmseg's test-time augmentation with the scores of the merged views, which tiles average."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.structures import PixelData
from mmseg.models import SegTTAModel
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample


@MODELS.register_module()
class ScoredSegTTAModel(SegTTAModel):
    """A ``SegTTAModel`` whose samples keep, as ``seg_logits``, the mean scores of all views."""

    def merge_preds(self, data_samples_list: Sequence[list[SegDataSample]]) -> list[SegDataSample]:
        """Merge the views of each image; arguments as of ``SegTTAModel``."""
        normalise = torch.sigmoid if self.module.out_channels == 1 else _softmax
        means = [
            sum(normalise(view.seg_logits.data) for view in views) / len(views)
            for views in data_samples_list
        ]
        merged = super().merge_preds(data_samples_list)
        for sample, mean in zip(merged, means, strict=True):
            sample.seg_logits = PixelData(data=mean)
        return merged


def _softmax(logits: torch.Tensor) -> torch.Tensor:
    return logits.softmax(dim=0)
