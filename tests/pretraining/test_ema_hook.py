"""Moving averages of sharded weights, by two processes from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.configs import mim
from tests.pretraining.tiny_runs import tiny_classifier
from tests.tiny_runs import on_cpu_processes


def train(name: str, folder: Path, epochs: int, *arguments: str) -> dict:
    config = tiny_classifier(name, folder)
    config.model.drop_path_rate = 0.0
    config.train_dataloader.dataset.pipeline[1] = dict(type='EvaluationTransform', size=32)
    config.train_cfg.max_epochs = epochs
    next(hook for hook in config.custom_hooks if hook.type == 'ShardableEMAHook').momentum = 0.3
    on_cpu_processes(config).dump(folder / 'config.py')
    launch = ('--launcher', 'pytorch', '--gpus', '2')
    mim('train', 'mmpretrain', folder / 'config.py', *launch, *arguments, cwd=folder)
    return torch.load(folder / 'work' / f'epoch_{epochs}.pth', weights_only=True)


@pytest.mark.slow
def test_shards_are_averaged_saved_and_resumed_as_whole_weights(tmp_path: Path) -> None:
    for name in ('whole', 'sharded'):
        (tmp_path / name).mkdir()
    whole = train('revcol_h_in1k_640', tmp_path / 'whole', 2)
    train('revcol_h_in1k_640_fsdp', tmp_path / 'sharded', 1)
    sharded = train('revcol_h_in1k_640_fsdp', tmp_path / 'sharded', 2, '--resume')
    assert sharded['ema_state_dict']['steps'] == whole['ema_state_dict']['steps'] == 4
    for entry in ('state_dict', 'ema_state_dict'):
        assert sharded[entry].keys() == whole[entry].keys()
        for key, value in whole[entry].items():
            torch.testing.assert_close(sharded[entry][key], value, msg=f'{entry} {key}')
    average = whole['state_dict']['subnet3.alpha3']
    assert not torch.equal(average, whole['ema_state_dict']['module.subnet3.alpha3'])
