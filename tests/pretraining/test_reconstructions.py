"""The figure of the pictures that decoders rebuild, from the command of the columns."""

from __future__ import annotations

from pathlib import Path

import torch
from mmengine.registry import MODELS, DefaultScope
from PIL import Image

from revcol_backbone.analysis.network_input import make_batch
from revcol_backbone.analysis.reconstructions import draw_reconstructions, rebuilds
from tests.golden import image
from tests.pretraining.image_folders import make_image_folder
from tests.pretraining.tiny_runs import TINY, tiny_classifier
from tools.visualize_columns import main


def build(**settings):
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        config = dict(type='RevColClassifier', arch=TINY, num_classes=3, **settings)
        return MODELS.build(config).eval()


def test_the_command_draws_what_is_rebuilt_beside_the_features(tmp_path: Path) -> None:
    config = tiny_classifier('revcol_t_in1k', tmp_path)
    config.dump(tmp_path / 'config.py')
    images = make_image_folder(tmp_path / 'more', images=4) / 'train' / 'red'
    arguments = [tmp_path / 'config.py', images, '--out', tmp_path / 'out', '--device', 'cpu']
    assert main([*map(str, arguments), '--shape', '32', '64', '--feature-maps', '2']) == 0
    drawn = sorted(path.name for path in (tmp_path / 'out').glob('*.png'))
    assert drawn == [
        'cka.png',
        'features_red0.png',
        'features_red1.png',
        'reconstructions_red0.png',
        'reconstructions_red1.png',
    ]
    assert all(Image.open(path).size for path in (tmp_path / 'out').glob('*.png'))


def test_only_whole_sizes_and_supervised_networks_are_rebuilt() -> None:
    whole, odd = image((1, 3, 64, 32)), image((1, 3, 50, 32))
    assert rebuilds(build(), whole)
    assert not rebuilds(build(), odd)
    assert not rebuilds(build(intermediate_supervision=False), whole)


def test_the_figure_shows_the_picture_and_the_decoders_in_their_order() -> None:
    model, x = build(), image((3, 64, 32))
    shown = [axes.images[0].get_array() for axes in draw_reconstructions(model, x, 'x.png').axes]
    rebuilt = model.reconstruct(x[None])
    assert len(shown) == 4
    for array, picture in zip(shown[1:], rebuilt, strict=True):
        assert torch.equal(torch.from_numpy(array.data), picture[0].permute(1, 2, 0).detach())


def test_a_classifier_is_given_normalized_rgb() -> None:
    bgr = torch.tensor([10, 100, 200], dtype=torch.uint8).expand(32, 32, 3).numpy()
    found = make_batch(build(), [bgr], torch.device('cpu'))[0, :, 0, 0]
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = (torch.tensor([200, 100, 10]) / 255 - mean) / std
    torch.testing.assert_close(found, expected)
