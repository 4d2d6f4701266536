"""Test-time augmentation for detectors that predict masks, which mmdet does not support.

Importing this module registers it in mmdet.
"""

from __future__ import annotations

import torch
from mmcv.ops import batched_nms
from mmdet.models.test_time_augs import DetTTAModel
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

FLIPPED_DIMENSIONS = {'horizontal': (2,), 'vertical': (1,), 'diagonal': (1, 2)}


@MODELS.register_module()
class InstanceTTAModel(DetTTAModel):
    """mmdet's ``DetTTAModel`` that keeps masks: a box that survives has the mask of its own view.

    Args:
        tta_cfg: ``nms``, as in ``batched_nms``, merges the boxes of all views; the best
            ``max_per_img`` of them are kept.
        kwargs: As in mmengine's ``BaseTTAModel``.
    """

    def test_step(self, data: dict) -> list[DetDataSample]:
        """Predict every view of every image, and merge the views.

        Args:
            data: Lists over the views of ``inputs`` and ``data_samples``, as from ``TestTimeAug``.

        Returns:
            One sample for each image, in the coordinates of the unaugmented image.
        """
        # Told of a flip, mmdet's cascades turn the masks of each stage back by a negative step,
        # which tensors do not have.
        for sample in (sample for view in data['data_samples'] for sample in view):
            sample.set_metainfo(dict(view_flip=_is_flipped(sample), flip=False))
        return super().test_step(data)

    def _merge_single_sample(self, data_samples: list[DetDataSample]) -> DetDataSample:
        for sample in data_samples:
            sample.set_metainfo(dict(flip=_is_flipped(sample)))
        views = [sample.pred_instances for sample in data_samples]
        if 'masks' not in views[0]:
            return super()._merge_single_sample(data_samples)
        boxes, scores = self.merge_aug_bboxes(
            [view.bboxes for view in views],
            [view.scores for view in views],
            [sample.metainfo for sample in data_samples],
        )
        labels = torch.cat([view.labels for view in views])
        masks = torch.cat([_unflipped_masks(sample) for sample in data_samples])
        merged, kept = batched_nms(boxes, scores, labels, self.tta_cfg.nms)
        merged, kept = (values[: self.tta_cfg.max_per_img] for values in (merged, kept))
        result = data_samples[0]
        result.pred_instances = InstanceData(
            bboxes=merged[:, :4], scores=merged[:, 4], labels=labels[kept], masks=masks[kept]
        )
        return result


def _is_flipped(sample: DetDataSample) -> bool:
    return sample.get('view_flip', sample.flip)


def _unflipped_masks(sample: DetDataSample) -> torch.Tensor:
    masks = sample.pred_instances.masks
    return masks.flip(FLIPPED_DIMENSIONS[sample.flip_direction]) if sample.flip else masks
