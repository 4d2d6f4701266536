"""RedNet-50 fine-tunes from a classifier at the published learning rate for its batch.

Users of the released code report NaN losses there. A possible cause (docs/involution.md): its
classification models hold a 3x3 involution in the stem, its detectors build a 7x7 one, and the
mismatch is dropped and frozen at random.
"""

from __future__ import annotations

import importlib
import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmdet.structures import DetDataSample
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from torch import Tensor, nn

from revcol_backbone.involution import RedNet
from tests.configs import build_model, load_config
from tests.tiny_data import SIZE, make_coco

PRETRAINING_STEPS = 6
PUBLISHED_BATCH = 16  # whose learning rate is scaled to the one image of a step here
WARMUP_STEPS, STEPS = 12, 16


def scenes(root: Path, images: int) -> list[tuple[Tensor, Tensor]]:
    """Images (3, SIZE, SIZE) in BGR, and the boxes of their red and blue objects."""
    content = json.loads((make_coco(root, images) / 'train.json').read_text())
    found = []
    for entry in content['images']:
        pixels = cv2.imread(str(root / 'train' / entry['file_name']))
        boxes = [
            (x, y, x + w, y + h)
            for annotation in content['annotations']
            if annotation['image_id'] == entry['id']
            for x, y, w, h in [annotation['bbox']]
        ]
        image = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
        found.append((image, torch.tensor(boxes, dtype=torch.float32)))
    return found


def write_classifier(data: list[tuple[Tensor, Tensor]], path: Path) -> Path:
    """Train a RedNet-50 to tell red halves from blue ones; save it as a published classifier."""
    network = RedNet(50, stem_kernel_size=3, norm_eval=False)
    network.init_weights()
    head = nn.Linear(2048, 2)
    optimizer = torch.optim.SGD([*network.parameters(), *head.parameters()], lr=0.02, momentum=0.9)
    images = torch.stack([image for image, _ in data]).flip(1).float()
    images = (images - images.mean((0, 2, 3), True)) / images.std((0, 2, 3), keepdim=True)
    halves = torch.cat(images.split(SIZE // 2, dim=3))
    labels = torch.arange(2).repeat_interleave(len(images))
    for _ in range(PRETRAINING_STEPS):
        loss = F.cross_entropy(head(network(halves)[-1].mean((2, 3))), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.4, 'the pre-training itself failed'
    # So few steps leave the running statistics near where they started.
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    with torch.no_grad():
        network(halves)
    weights = {f'backbone.{key}': value for key, value in network.state_dict().items()}
    weights |= {f'head.fc.{key}': value for key, value in head.state_dict().items()}
    torch.save({'meta': {}, 'state_dict': weights}, path)
    return path


@pytest.mark.slow
def test_faster_rcnn_trains_with_a_finite_falling_loss(tmp_path):
    torch.manual_seed(0)
    data = scenes(tmp_path / 'data', images=8)
    config = load_config('det_configs/rednet50_faster_rcnn.py')
    for module in config.custom_imports.imports:
        importlib.import_module(module)
    checkpoint = write_classifier(data, tmp_path / 'rednet50.pth')
    config.model.backbone.init_cfg.checkpoint = str(checkpoint)
    model = build_model(config).train()
    optim_wrapper = build_optim_wrapper(model, config.optim_wrapper)
    (group,) = {id(group): group for group in optim_wrapper.optimizer.param_groups}.values()
    published = group['lr']
    assert published == 0.02

    losses = []
    for step in range(STEPS):
        group['lr'] = published / PUBLISHED_BATCH * min(1, (step + 1) / WARMUP_STEPS)
        with DefaultScope.overwrite_default_scope('mmdet'):
            batch = model.data_preprocessor(detection_batch(data[:1]), training=True)
            loss, _ = model.parse_losses(model(**batch, mode='loss'))
        optim_wrapper.update_params(loss)
        losses.append(loss.item())
    assert all(map(math.isfinite, losses)), losses
    assert sum(losses[-3:]) / 3 < losses[0] / 2, losses


def detection_batch(data: list[tuple[Tensor, Tensor]]) -> dict:
    samples = []
    for image, boxes in data:
        size = tuple(image.shape[1:])
        sample = DetDataSample(metainfo=dict(img_shape=size, ori_shape=size, scale_factor=(1, 1)))
        sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.arange(len(boxes)))
        samples.append(sample)
    return dict(inputs=[image for image, _ in data], data_samples=samples)
