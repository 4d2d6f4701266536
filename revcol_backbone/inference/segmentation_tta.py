"""mmseg's test-time augmentation with the scores of the merged views, which tiles average."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.structures import PixelData
from mmseg.models import SegTTAModel
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample


@MODELS.register_module()
class ScoredSegTTAModel(SegTTAModel):
    """A ``SegTTAModel`` whose samples keep, as ``seg_logits``, the mean scores of all views.

    With one output channel, whose scores mmseg has made probabilities already, it decides by them;
    mmseg's own would make probabilities of probabilities, all of which pass the threshold.
    """

    def merge_preds(self, data_samples_list: Sequence[list[SegDataSample]]) -> list[SegDataSample]:
        """Merge the views of each image; arguments as of ``SegTTAModel``."""
        is_binary = self.module.out_channels == 1
        means = []
        for views in data_samples_list:
            scores = [view.seg_logits.data for view in views]
            means.append(sum(s if is_binary else s.softmax(dim=0) for s in scores) / len(views))
        merged = super().merge_preds(data_samples_list)
        for sample, mean in zip(merged, means, strict=True):
            sample.seg_logits = PixelData(data=mean)
            if is_binary:
                labels = mean > self.module.decode_head.threshold
                sample.pred_sem_seg = PixelData(data=labels)
        return merged
