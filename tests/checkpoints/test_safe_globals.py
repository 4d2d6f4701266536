"""Training checkpoints of mmengine load for test and resume, and nothing else gets in with them."""

from __future__ import annotations

import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.evaluator import BaseMetric
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, METRICS, MODELS
from mmengine.runner import Runner, load_checkpoint, save_checkpoint
from torch import nn
from torch.serialization import get_safe_globals

from revcol_backbone.checkpoints.safe_globals import allow_mmengine_globals
from tests.malicious import Calls

allow_mmengine_globals()


@MODELS.register_module()
class CheckpointTestModel(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 1)

    def forward(self, inputs: list, sample_idx: list, mode: str = 'tensor') -> object:
        prediction = self.linear(torch.stack(list(inputs)))
        return dict(loss=prediction.square().mean()) if mode == 'loss' else [prediction]


@DATASETS.register_module()
class CheckpointTestDataset(BaseDataset):
    METAINFO = dict(classes=('cat', 'dog'), palette=[[1, 2, 3], [4, 5, 6]], weights=np.ones(2))

    def load_data_list(self) -> list[dict]:
        return [dict(inputs=torch.full((2,), float(index))) for index in range(4)]


@METRICS.register_module()
class CheckpointTestMetric(BaseMetric):
    """Returns every kind of value that the metrics of mmdet and mmseg return."""

    def process(self, data_batch: object, data_samples: object) -> None:
        self.results.append(0.5)

    def compute_metrics(self, results: list) -> dict:
        return dict(
            mIoU=np.round(np.float64(57.8), 2),
            mask=np.float32(0.5),
            count=np.int64(3),
            per_class=np.array([0.25, 0.75]),
            bbox_mAP_copypaste='0.1 0.2',
        )


def run_config(work_dir, **changes):
    def loader(**dataset):
        return dict(
            batch_size=2,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=False),
            dataset=dict(type='CheckpointTestDataset', **dataset),
        )

    metainfo = dict(groups=dict(pets=('cat', 'dog')))
    return (
        dict(
            model=dict(type='CheckpointTestModel'),
            work_dir=str(work_dir),
            train_dataloader=loader(metainfo=metainfo),
            val_dataloader=loader(),
            test_dataloader=loader(),
            val_evaluator=dict(type='CheckpointTestMetric'),
            test_evaluator=dict(type='CheckpointTestMetric'),
            val_cfg=dict(),
            test_cfg=dict(),
            optim_wrapper=dict(
                optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.999), weight_decay=0.05)
            ),
            # Runs of one name share their history if they start in the same second.
            experiment_name='_'.join(Path(work_dir).parts[-2:]),
            randomness=dict(seed=0),
            default_scope='mmengine',
            log_level='WARNING',
        )
        | changes
    )


def by_epoch(work_dir, **changes):
    return run_config(
        work_dir,
        train_cfg=dict(by_epoch=True, max_epochs=2),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1, save_best='mIoU')),
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=2),
            dict(type='MultiStepLR', milestones=[1, 2], gamma=0.1),
        ],
        **changes,
    )


def by_iteration(work_dir, **changes):
    return run_config(
        work_dir,
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=4, val_interval=2),
        default_hooks=dict(
            checkpoint=dict(
                type='CheckpointHook',
                by_epoch=False,
                interval=2,
                max_keep_ckpts=3,
                save_best=['mIoU', 'count'],
                rule='greater',
            )
        ),
        param_scheduler=[dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False)],
        **changes,
    )


def build(config):
    return Runner.from_cfg(Config(config))


def train(config):
    runner = build(config)
    runner.train()
    return runner


def weights_of(runner):
    return {key: value.clone() for key, value in runner.model.state_dict().items()}


def assert_same(found, expected):
    assert list(found) == list(expected)
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=0, atol=0)


@pytest.fixture(autouse=True)
def _in_own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize('recipe', [by_epoch, by_iteration])
def test_every_checkpoint_of_a_training_run_loads_for_test(tmp_path, recipe):
    trained = weights_of(train(recipe(tmp_path / 'train')))
    files = sorted((tmp_path / 'train').glob('*.pth'))
    assert any(file.name.startswith('best_mIoU') for file in files)
    for file in files:
        torch.load(file, weights_only=True)
    runner = build(recipe(tmp_path / 'test', load_from=str(files[-1])))
    assert runner.test()['mIoU'] == 57.8
    assert_same(weights_of(runner), trained)


def with_moving_average(work_dir, **changes):
    hooks = [dict(type='EMAHook', momentum=0.5)]
    return by_epoch(work_dir, custom_hooks=hooks, **changes)


def with_one_cycle_schedule(work_dir, **changes):
    schedule = dict(type='OneCycleLR', eta_max=0.1, total_steps=4, by_epoch=True)
    return by_epoch(work_dir, **changes) | dict(param_scheduler=[schedule])


@pytest.mark.parametrize(
    ('recipe', 'middle', 'end'),
    [
        (by_epoch, 'epoch_1.pth', 'epoch_2.pth'),
        (by_iteration, 'iter_2.pth', 'iter_4.pth'),
        (with_moving_average, 'epoch_1.pth', 'epoch_2.pth'),
        (with_one_cycle_schedule, 'epoch_1.pth', 'epoch_2.pth'),
    ],
)
def test_run_resumed_from_the_middle_ends_like_the_whole_run(tmp_path, recipe, middle, end):
    train(recipe(tmp_path / 'whole'))
    load_from = str(tmp_path / 'whole' / middle)
    resumed = train(recipe(tmp_path / 'resumed', load_from=load_from, resume=True))
    found, expected = (
        torch.load(tmp_path / run / end, weights_only=True) for run in ('resumed', 'whole')
    )
    assert found.keys() == expected.keys()
    for entry in ('state_dict', 'ema_state_dict'):
        assert_same(found.get(entry, {}), expected.get(entry, {}))
    assert found['optimizer']['param_groups'] == expected['optimizer']['param_groups']
    assert found['param_schedulers'] == expected['param_schedulers']
    losses = [
        file['message_hub']['log_scalars']['train/loss'].data[0] for file in (found, expected)
    ]
    np.testing.assert_array_equal(*losses)
    assert len(losses[0]) == resumed.iter


def test_state_of_mixed_precision_training_loads(tmp_path):
    scaler = torch.amp.GradScaler('cpu')
    weight = torch.ones(2, requires_grad=True)
    optimizer = torch.optim.AdamW([weight])
    scaler.scale(weight.sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    state = optimizer.state_dict() | {'loss_scaler': scaler.state_dict()}
    save_checkpoint(dict(optimizer=state), str(tmp_path / 'file.pth'))
    loaded = torch.load(tmp_path / 'file.pth', weights_only=True)['optimizer']
    assert loaded['loss_scaler'] == scaler.state_dict()
    assert_same(loaded['state'][0], state['state'][0])


ARRAYS = [
    np.float64(0.5),
    np.float32(0.5),
    np.float16(0.5),
    np.int64(3),
    np.bool_(True),
    np.complex64(1j),
    np.str_('mIoU'),
    np.arange(6, dtype='>i4').reshape(2, 3),
    np.asfortranarray(np.ones((2, 3))),
    np.array(['cat', 'dog']),
]


@pytest.mark.parametrize('value', ARRAYS, ids=lambda value: value.dtype.str)
@pytest.mark.parametrize('module', [b'numpy.core.multiarray', b'numpy._core.multiarray'])
def test_numbers_and_arrays_load_from_files_of_numpy_1_and_2(tmp_path, value, module):
    path = tmp_path / 'file.pth'
    torch.save(dict(best_score=value), path, _use_new_zipfile_serialization=False)
    written = path.read_bytes()
    path.write_bytes(re.sub(rb'numpy\._?core\.multiarray', module, written))
    loaded = torch.load(path, weights_only=True)['best_score']
    np.testing.assert_array_equal(loaded, value)
    assert loaded.dtype == pickle.loads(pickle.dumps(value, protocol=2)).dtype
    assert type(loaded) is type(value)


def test_statistics_of_a_loaded_history_work(tmp_path):
    history = HistoryBuffer([1.0, 2.0, 6.0], [1, 1, 1])
    torch.save(history, tmp_path / 'file.pth')
    loaded = torch.load(tmp_path / 'file.pth', weights_only=True)
    assert [loaded.statistics(name) for name in ('min', 'max', 'mean', 'current')] == [1, 6, 3, 6]


@pytest.mark.parametrize(
    'attack',
    [
        Calls(os.system, 'touch witness'),
        Calls(eval, "open('witness', 'w')"),
        Calls(Calls(getattr, Calls(__import__, 'os'), 'system'), 'touch witness'),
        Calls(getattr, HistoryBuffer, '__init__'),
        Calls(getattr, HistoryBuffer, '_statistics_methods'),
        Calls(getattr, HistoryBuffer, 'register_statistics'),
        Calls(getattr, HistoryBuffer([1], [1]), 'mean'),
        Calls(getattr, Calls(getattr, HistoryBuffer, 'mean'), '__globals__'),
        Calls(Calls(getattr, HistoryBuffer, 'mean'), HistoryBuffer([1], [1])),
        Calls(getattr, np.ndarray, 'tofile'),
        np.array([object()]),
        np.zeros(2, dtype=[('name', 'O')]),
        Path('file'),
    ],
)
def test_file_that_asks_for_anything_else_is_refused(tmp_path, attack):
    torch.save(dict(state_dict={}, message_hub=attack), tmp_path / 'file.pth')
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / 'file.pth', weights_only=True)
    assert not Path('witness').exists()


def test_refusal_names_the_attribute_that_was_asked_for(tmp_path):
    torch.save(Calls(getattr, HistoryBuffer, '__init__'), tmp_path / 'file.pth')
    with pytest.raises(pickle.UnpicklingError, match="asks for the attribute '__init__' of"):
        torch.load(tmp_path / 'file.pth', weights_only=True)


def test_trusting_twice_changes_nothing():
    before = set(get_safe_globals())
    allow_mmengine_globals()
    assert set(get_safe_globals()) == before


def test_without_the_trust_torch_refuses_these_files(tmp_path):
    train(by_epoch(tmp_path))
    trusted = get_safe_globals()
    torch.serialization.clear_safe_globals()
    try:
        with pytest.raises(pickle.UnpicklingError):
            torch.load(tmp_path / 'epoch_1.pth')
    finally:
        torch.serialization.add_safe_globals(trusted)
    assert torch.load(tmp_path / 'epoch_1.pth')['meta']['epoch'] == 1


def test_the_loader_of_mmengine_refuses_a_file_that_would_run_a_command(tmp_path):
    """Also that of onedl-mmengine, which reads a refused file once more without protection."""
    made = tmp_path / 'made'
    file = dict(state_dict=nn.Linear(2, 1).state_dict(), meta=Calls(os.mkdir, str(made)))
    torch.save(file, tmp_path / 'file.pth')
    with pytest.raises(pickle.UnpicklingError, match='mkdir'):
        load_checkpoint(nn.Linear(2, 1), str(tmp_path / 'file.pth'))
    assert not made.exists()
