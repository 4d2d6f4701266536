"""Training, resuming and testing under the Runner, and the files that go in and out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner
from torch import Tensor

from revcol_backbone import RevCol
from revcol_backbone.pretraining import RevColClassifier
from tests.configs import mim
from tests.golden import image
from tests.pretraining.tiny_runs import TINY, tiny_classifier
from tools.convert_checkpoint import main as convert

PARTS = {*(f'loss_label{i}' for i in range(4)), *(f'loss_picture{i}' for i in range(3))}


@pytest.fixture(scope='module')
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training by the recipe of RevCol-T with everything that it brings."""
    folder = tmp_path_factory.mktemp('run')
    train(tiny_classifier('revcol_t_in1k', folder))
    return folder


def train(config: Config) -> Runner:
    config = config.copy()
    config.experiment_name = f'{Path(config.work_dir).parent.name}_{id(config)}'
    runner = Runner.from_cfg(config)
    runner.train()
    return runner


def checkpoint_of(folder: Path) -> Path:
    return folder / 'work' / 'epoch_2.pth'


def load(path: Path) -> dict:
    return torch.load(path, map_location='cpu', weights_only=False)


def build(**settings) -> RevColClassifier:
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        config = dict(type='RevColClassifier', arch=TINY, num_classes=3, **settings)
        return MODELS.build(config).eval()


def test_every_part_of_the_loss_is_logged_with_speed_and_time_left(run: Path) -> None:
    lines = [
        json.loads(line)
        for path in run.glob('work/*/vis_data/scalars.json')
        for line in path.read_text().splitlines()
    ]
    training = [line for line in lines if 'loss' in line]
    assert len(training) == 6
    for line in training:
        assert line.keys() >= {*PARTS, 'time', 'grad_norm'} - {'grad_norm'}
        assert line['loss'] == pytest.approx(sum(line[part] for part in PARTS), rel=1e-4)
    assert {'accuracy/top1', 'accuracy/top2'} <= lines[-1].keys()
    log = next(run.glob('work/*/*.log')).read_text()
    assert 'eta: 0:00:' in log


def test_tensorboard_has_every_part_of_the_loss(run: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(next(run.glob('work/*/vis_data'))))
    events.Reload()
    assert set(events.Tags()['scalars']) >= {*PARTS, 'loss', 'lr', 'accuracy/top1'}


def test_a_detectors_backbone_takes_the_checkpoint_as_it_is(run: Path) -> None:
    path = checkpoint_of(run)
    backbone = RevCol(TINY, init_cfg=dict(type='Pretrained', checkpoint=str(path)))
    backbone.init_weights()
    trained = load(path)['state_dict']
    assert all(torch.equal(value, trained[key]) for key, value in backbone.state_dict().items())
    heads = {key.split('.')[0] for key in trained if key not in backbone.state_dict()}
    assert heads == {'cls_blocks', 'decoder_blocks'}


def test_fine_tuning_takes_the_backbone_and_starts_with_small_heads(run: Path) -> None:
    path = checkpoint_of(run)
    model = build(
        intermediate_supervision=False,
        head_init_scale=0.001,
        init_cfg=dict(type='Pretrained', checkpoint=str(path)),
    )
    before = {key: value.clone() for key, value in model.cls.state_dict().items()}
    model.init_weights()
    trained = load(path)['state_dict']
    for key, value in model.state_dict().items():
        expected = before[key.removeprefix('cls.')] if key.startswith('cls.') else trained[key]
        assert torch.equal(value, expected), key
    weight = model.cls.classifier[-1].weight
    assert 0 < weight.abs().max() < 1e-4  # of a normal distribution with std 0.02


@pytest.mark.parametrize('supervised', [True, False])
def test_published_files_are_evaluated_with_their_heads(tmp_path: Path, supervised: bool) -> None:
    name = 'revcol_t_in1k' if supervised else 'revcol_b_in22k_in1k'
    config = tiny_classifier(name, tmp_path)
    published = build(intermediate_supervision=supervised)
    for parameter in published.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    weights = {f'module.{key}': value for key, value in published.state_dict().items()}
    torch.save({'model': weights, 'epoch': 299}, tmp_path / 'published.pth')
    config.load_from = str(tmp_path / 'published.pth')
    runner = Runner.from_cfg(config)
    metrics = runner.test()
    assert {'accuracy/top1', 'accuracy/top2'} == metrics.keys()
    x = image((2, 3, 32, 32))
    torch.testing.assert_close(runner.model.eval()(x), published(x))


def test_a_file_of_another_classifier_is_not_evaluated(tmp_path: Path) -> None:
    config = tiny_classifier('revcol_t_in1k', tmp_path)
    torch.save({'model': build(intermediate_supervision=False).state_dict()}, tmp_path / 'x.pth')
    config.load_from = str(tmp_path / 'x.pth')
    with pytest.raises(ValueError, match=r'does not fit .*missing cls_blocks.*unexpected cls\.'):
        Runner.from_cfg(config).test()


def test_a_killed_training_resumes_as_if_it_had_not_been(tmp_path: Path) -> None:
    def configure(folder: str) -> Config:
        config = tiny_classifier('revcol_t_in1k', tmp_path / folder, train_cfg=None)
        # What is drawn at random in a step is not what this is about.
        config.model.drop_path_rate = 0.0
        config.train_dataloader.dataset.pipeline[1] = dict(type='EvaluationTransform', size=32)
        ema = next(hook for hook in config.custom_hooks if hook.type == 'ShardableEMAHook')
        ema.momentum = 0.3
        return config

    train(configure('whole'))
    killed = configure('killed')
    killed.custom_hooks.append(dict(type='KillingHook', iteration=4))
    with pytest.raises(KeyboardInterrupt):
        train(killed)
    resumed = configure('killed')
    resumed.resume = True
    train(resumed)
    whole, again = (load(checkpoint_of(tmp_path / name)) for name in ('whole', 'killed'))
    for entry in ('state_dict', 'ema_state_dict'):
        assert whole[entry].keys() == again[entry].keys()
        assert all(torch.equal(whole[entry][key], again[entry][key]) for key in whole[entry])
    assert not equal(whole['state_dict'], unwrapped(whole['ema_state_dict']))


def equal(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return all(torch.equal(left[key], right[key]) for key in left)


def unwrapped(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix('module.'): value for key, value in state.items()}


def test_pictures_are_rebuilt_between_zero_and_one() -> None:
    pictures = build().reconstruct(image((2, 3, 64, 32)))
    assert [tuple(picture.shape) for picture in pictures] == [(2, 3, 64, 32)] * 3
    assert all(picture.min() > 0 and picture.max() < 1 for picture in pictures)


def test_any_size_is_classified() -> None:
    assert build()(image((1, 3, 50, 70))).shape == (1, 3)
    with pytest.raises(ValueError, match='images of 50x70 were given'):
        build().reconstruct(image((1, 3, 50, 70)))


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(RuntimeError, match="mode='train' is not allowed"):
        build()(image((1, 3, 32, 32)), mode='train')


@pytest.mark.slow
def test_the_commands_train_resume_test_and_convert(tmp_path: Path) -> None:
    config = tiny_classifier('revcol_t_in1k', tmp_path)
    config.train_cfg.max_epochs = 1
    config.dump(tmp_path / 'one.py')
    config.train_cfg.max_epochs = 2
    config.dump(tmp_path / 'two.py')
    mim('train', 'mmpretrain', 'one.py', '--gpus', '0', cwd=tmp_path)
    output = mim('train', 'mmpretrain', 'two.py', '--gpus', '0', '--resume', cwd=tmp_path)
    assert 'resumed epoch: 1, iter: 3' in output
    checkpoint = checkpoint_of(tmp_path)
    output = mim('test', 'mmpretrain', 'two.py', '--checkpoint', checkpoint, cwd=tmp_path)
    assert 'accuracy/top1' in output

    for target, options in (('whole.safetensors', []), ('backbone.pth', ['--strip-heads'])):
        assert convert([str(checkpoint), str(tmp_path / target), *options]) == 0
        backbone = RevCol(TINY, init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / target)))
        backbone.init_weights()
        trained = load(checkpoint)['state_dict']
        assert equal(backbone.state_dict(), trained)


def test_another_number_of_classes_starts_from_a_whole_backbone(run: Path, tmp_path: Path) -> None:
    config = tiny_classifier('revcol_t_in1k', tmp_path)
    config.model.num_classes = config.model.num_classes + 1
    config.train_cfg.max_epochs = 1
    config.load_from = str(checkpoint_of(run))
    train(config)

    weights = load(checkpoint_of(run))['state_dict']
    weights.pop('subnet2.alpha1')
    torch.save({'state_dict': weights}, tmp_path / 'part.pth')
    config.load_from = str(tmp_path / 'part.pth')
    with pytest.raises(ValueError, match=r'does not fit .*missing subnet2\.alpha1'):
        train(config)
