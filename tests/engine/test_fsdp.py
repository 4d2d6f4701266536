"""Sharded training of a small stand-in of RevCol-H's detector, from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.runner import CheckpointLoader, FlexibleRunner

from tests.configs import ROOT, build_model, load_config, mim
from tests.old_checkpoints import save_with_objects
from tests.tiny_runs import on_cpu_processes, tiny_detector, tiny_segmentor

LAUNCH = ('--launcher', 'pytorch', '--gpus', '2')
CONFIGS = sorted(path.relative_to(ROOT) for path in ROOT.glob('*_configs/*_fsdp.py'))


@pytest.mark.parametrize('path', map(str, CONFIGS))
def test_a_sharded_config_is_the_plain_one_under_another_runner(path):
    sharded, plain = load_config(path), load_config(path.replace('_fsdp', ''))
    assert sharded.pop('runner_type') == 'FlexibleRunner'
    assert sharded.pop('strategy') == dict(type='RevColFSDPStrategy')
    if plain.get('load_from'):  # the sharded pre-training writes into a folder of its own
        assert sharded.pop('load_from') == plain.pop('load_from').replace('o365/', 'o365_fsdp/')
    assert sharded.to_dict() == plain.to_dict()


def test_every_system_of_revcol_h_has_a_sharded_config():
    plain = {path.stem for path in ROOT.glob('*_configs/revcol_h_*.py')}
    sharded = {path.stem for path in CONFIGS}
    assert sharded == {f'{name}_fsdp' for name in plain - sharded}


def tiny(name: str, folder: Path):
    """A shrunk config that trains one step on four images, its gradient clipped."""
    config = tiny_detector(name, folder, images=4)
    config.optim_wrapper.clip_grad = dict(max_norm=1.0)
    config.param_scheduler = [dict(type='ConstantLR', factor=0.5, by_epoch=True)]
    config.randomness = dict(seed=0)
    return on_cpu_processes(config)


def train(config, folder: Path, *arguments: object) -> str:
    config.dump(folder / 'config.py')
    return mim('train', 'mmdet', folder / 'config.py', *LAUNCH, *arguments, cwd=folder)


@pytest.fixture(scope='module')
def plain(tmp_path_factory) -> dict:
    """The checkpoint of two processes that each hold the whole model."""
    folder = tmp_path_factory.mktemp('plain')
    train(tiny('revcol_h_cascade', folder), folder)
    return torch.load(folder / 'work/epoch_1.pth', weights_only=True)


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    """Where two processes trained the model in shards."""
    folder = tmp_path_factory.mktemp('sharded')
    output = train(tiny('revcol_h_cascade_fsdp', folder), folder)
    assert 'Epoch(train) [1][1/1]' in output
    assert 'coco/segm_mAP' in output
    return folder


@pytest.fixture(scope='module')
def sharded(folder) -> dict:
    return torch.load(folder / 'work/epoch_1.pth', weights_only=True)


def settings(groups, names=None) -> dict[str, tuple[float, float]]:
    """{parameter: (learning rate before any schedule, weight decay)}."""
    return {
        names[parameter] if names else parameter: (
            group.get('initial_lr', group['lr']),
            group['weight_decay'],
        )
        for group in groups
        for parameter in group['params']
    }


@pytest.mark.slow
def test_every_parameter_has_the_learning_rate_and_weight_decay_of_the_whole_model(sharded, folder):
    config = tiny('revcol_h_cascade', folder / 'rule')
    model = build_model(config)
    groups = build_optim_wrapper(model, config.optim_wrapper).optimizer.param_groups
    names = {parameter: name for name, parameter in model.named_parameters()}
    found = settings(sharded['optimizer']['param_groups'])
    assert found == settings(groups, names)
    assert len(set(found.values())) == 14  # stem, five layers and the heads, with and without decay


@pytest.mark.slow
def test_a_step_is_that_of_processes_with_the_whole_model(sharded, plain):
    assert sharded['state_dict'].keys() == plain['state_dict'].keys()
    for name, weight in plain['state_dict'].items():
        torch.testing.assert_close(sharded['state_dict'][name], weight, msg=name)
    # The first moments of Adam are a tenth of the clipped gradient.
    names = [name for g in plain['optimizer']['param_groups'] for name in g['param_names']]
    moments = {
        names[index]: state['exp_avg'] for index, state in plain['optimizer']['state'].items()
    }
    norm = torch.stack([moment.norm() for moment in moments.values()]).norm()
    assert norm == pytest.approx(0.1, rel=1e-4)
    for name, moment in moments.items():
        found = sharded['optimizer']['state'][name]['exp_avg']
        torch.testing.assert_close(found, moment, rtol=1e-3, atol=1e-6, msg=name)


@pytest.mark.slow
def test_training_resumes_and_the_result_is_tested_by_one_process(sharded, folder):
    config = tiny('revcol_h_cascade_fsdp', folder / 'longer')
    config.update(work_dir=str(folder / 'work'))
    config.train_cfg.max_epochs = 2
    output = train(config, folder, '--resume')
    assert 'resumed epoch: 1, iter: 1' in output
    second = torch.load(folder / 'work/epoch_2.pth', weights_only=True)
    first = sharded['optimizer']
    assert settings(second['optimizer']['param_groups']) == settings(first['param_groups'])
    for name, state in second['optimizer']['state'].items():
        # Both moments went on from the saved ones, by the same second gradient.
        before = first['state'][name]
        gradient = (state['exp_avg'] - 0.9 * before['exp_avg']) / 0.1
        expected = 0.999 * before['exp_avg_sq'] + 0.001 * gradient**2
        torch.testing.assert_close(state['exp_avg_sq'], expected, rtol=1e-2, atol=1e-10, msg=name)
        assert state['step'] == 2

    checkpoint = folder / 'work/epoch_2.pth'
    arguments = ('test', 'mmdet', folder / 'config.py', '--checkpoint', checkpoint, '--tta')
    output = mim(*arguments, cwd=folder)
    assert f'Load checkpoint from {checkpoint}' in output
    assert 'coco/segm_mAP' in output


@pytest.fixture
def one_process(monkeypatch):
    """A launched process that is the only one, as far as mmengine can tell."""
    monkeypatch.setenv('LOCAL_RANK', '0')
    monkeypatch.setattr(CheckpointLoader, '_schemes', dict(CheckpointLoader._schemes))
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group('gloo', store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures('one_process')
def test_training_starts_from_an_old_file_with_other_classes_and_says_what_it_left(tmp_path):
    weights = build_model(tiny('revcol_h_cascade', tmp_path / 'other')).state_dict()
    weights['roi_head.mask_head.0.conv_logits.bias'] = torch.zeros(19)
    config = tiny('revcol_h_cascade_fsdp', tmp_path)
    config.merge_from_dict(dict(launcher='pytorch', optim_wrapper=dict(optimizer=dict(lr=0.0))))
    config.load_from = str(save_with_objects(weights, tmp_path / 'old.pth'))
    runner = FlexibleRunner.from_cfg(config)
    runner.train()

    found = runner.strategy.model_state_dict()
    name = 'backbone.subnet1.level0.blocks.0.dwconv.weight'
    assert torch.equal(found[name], weights[name])
    assert found['roi_head.mask_head.0.conv_logits.bias'].shape == (2,)
    log = ''.join(path.read_text() for path in (tmp_path / 'work').rglob('*.log'))
    assert 'left out the Python objects beside the weights' in log
    assert 'not loaded roi_head.mask_head.0.conv_logits.bias; left as initialized roi_head' in log


@pytest.mark.usefixtures('one_process')
def test_a_segmentor_trains_and_is_validated_by_sliding_windows(tmp_path):
    config = tiny_segmentor('revcol_h_upernet_fsdp', tmp_path)
    config.launcher = 'pytorch'
    runner = FlexibleRunner.from_cfg(on_cpu_processes(config))
    runner.train()
    assert 'val/mIoU' in runner.message_hub.log_scalars
    saved = torch.load(tmp_path / 'work/iter_2.pth', weights_only=True)
    assert saved['state_dict'].keys() == build_model(config).state_dict().keys()


@pytest.mark.usefixtures('one_process')
def test_a_file_with_another_backbone_is_an_error(tmp_path):
    config = tiny('revcol_h_cascade_fsdp', tmp_path)
    config.launcher = 'pytorch'
    config.load_from = str(tmp_path / 'other.pth')
    torch.save({'state_dict': {'backbone.conv1.weight': torch.zeros(1)}}, config.load_from)
    with pytest.raises(ValueError, match='missing backbone.stem.0.weight'):
        FlexibleRunner.from_cfg(config).train()


def test_training_in_one_process_is_refused_with_the_way_out(tmp_path):
    config = tiny_detector('revcol_h_cascade_fsdp', tmp_path)
    with pytest.raises(RuntimeError, match='trains in several processes; add `--launcher pytorch`'):
        FlexibleRunner.from_cfg(config).train()
