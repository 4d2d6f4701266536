"""Import the package, build a published config, and train a detector and a segmentor for one step.

What has to work in any supported environment, in a minute and without data:

    python tools/smoke_test.py
"""

from __future__ import annotations

import platform
import sys
import warnings
from collections.abc import Sequence
from importlib.util import find_spec

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import InstanceData, PixelData
from torch import nn

from revcol_backbone.analysis.flops import build_on_meta, count_parameters
from revcol_backbone.cli import report_errors
from revcol_backbone.model_zoo import find_config

SIDE = 64  # pixels of the image to train on
# A published config and a small one of each library.
CONFIGS = dict(
    mmdet=('revcol_t_cascade', 'quickstart_cascade'),
    mmseg=('revcol_t_upernet', 'quickstart_upernet'),
    mmpretrain=('revcol_t_in1k', 'quickstart_digits'),
)
TRAINED = ('mmdet', 'mmseg')


@report_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Run all of it; raises what fails."""
    warnings.filterwarnings('ignore', category=UserWarning)
    MMLogger.get_instance('smoke_test', log_level='WARNING')
    libraries = [name for name in ('mmdet', 'mmseg', 'mmpretrain') if find_spec(name)]
    print(f'Python {platform.python_version()}, torch {torch.__version__}, {", ".join(libraries)}')
    for library in libraries:
        published, small = CONFIGS[library]
        print(f'{published}: {count_parameters(build_on_meta(read(published)))} parameters')
        if library in TRAINED:
            losses = train_one_step(read(small))
            print(f'{small}: loss {losses[0]:.3f}, after one step {losses[1]:.3f}')


def read(name: str) -> Config:
    """Read an installed config by its name."""
    return Config.fromfile(find_config(name))


def train_one_step(config: Config) -> tuple[float, float]:
    """Train the config's model on two random images; returns the loss before and after.

    Raises:
        ValueError: A loss is not finite, or the parameters did not change.
    """
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(config.default_scope):
        model = MODELS.build(config.model).train()
        optim_wrapper = build_optim_wrapper(model, dict(config.optim_wrapper, type='OptimWrapper'))
        before = nn.utils.parameters_to_vector(model.parameters()).detach().clone()
        losses = []
        for _ in range(2):
            data = model.data_preprocessor(make_batch(config.default_scope), True)
            loss, _ = model.parse_losses(model(**data, mode='loss'))
            losses.append(loss.item())
            if len(losses) == 1:
                optim_wrapper.update_params(loss)
    after = nn.utils.parameters_to_vector(model.parameters()).detach()
    if not torch.isfinite(torch.tensor(losses)).all() or torch.equal(before, after):
        raise ValueError(f'{type(model).__name__} did not train: losses {losses}')
    return losses[0], losses[1]


def make_batch(library: str) -> dict:
    """Make two random images with one object each, as the loaders of mmdet or mmseg would."""
    image = torch.randint(0, 256, (3, SIDE, SIDE), dtype=torch.uint8)
    size = dict(img_shape=(SIDE, SIDE), ori_shape=(SIDE, SIDE), pad_shape=(SIDE, SIDE))
    if library == 'mmseg':
        from mmseg.structures import SegDataSample

        sample = SegDataSample(metainfo=size)
        sample.gt_sem_seg = PixelData(data=torch.randint(0, 2, (1, SIDE, SIDE)))
        return dict(inputs=[image, image], data_samples=[sample, sample])
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks

    masks = torch.zeros(1, SIDE, SIDE, dtype=torch.uint8)
    masks[:, 8:40, 8:40] = 1
    sample = DetDataSample(
        metainfo=dict(size, scale_factor=(1.0, 1.0), batch_input_shape=(SIDE, SIDE))
    )
    sample.gt_instances = InstanceData(
        bboxes=torch.tensor([[8.0, 8.0, 40.0, 40.0]]),
        labels=torch.tensor([0]),
        masks=BitmapMasks(masks.numpy(), SIDE, SIDE),
    )
    sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0).long())
    return dict(inputs=[image, image], data_samples=[sample, sample])


if __name__ == '__main__':
    sys.exit(main())
