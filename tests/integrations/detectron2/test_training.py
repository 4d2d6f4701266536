"""Detectron2's own training script on the quickstart's configs, on a few small images."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import torch

from revcol_backbone import RevCol
from tests.golden import fill
from tests.integrations.detectron2.digits import make_digits

DETECTOR = 'det_configs/detectron2/quickstart_cascade.py'
SEGMENTOR = 'seg_configs/detectron2/quickstart_semantic_fpn.py'
BACKBONE = 'backbone.bottom_up.'
FIRST_COLUMN = (f'{BACKBONE}stem.', f'{BACKBONE}subnet0.')
BATCH_OF_TWO = ('dataloader.train.total_batch_size=2', 'train.seed=0', 'train.log_period=1')


def metrics(folder: Path) -> list[dict]:
    """What the script noted at every iteration."""
    lines = (folder / 'metrics.json').read_text().splitlines()
    return [entry for line in lines if 'lr' in (entry := json.loads(line))]


def weights(file: Path) -> dict[str, torch.Tensor]:
    return torch.load(file, weights_only=False)['model']


def test_a_detector_trains_for_20_iterations_and_resumes(run_trainer: Callable, tmp_path: Path):
    folder = tmp_path / 'detector'
    settings = (*BATCH_OF_TWO, 'train.checkpointer.period=10')
    frozen = f'model.{BACKBONE}frozen_columns=1'
    run_trainer(DETECTOR, folder, (*settings, frozen, 'train.max_iter=20'))
    assert [entry['iteration'] for entry in metrics(folder)] == list(range(20))

    run_trainer(DETECTOR, folder, (*settings, frozen, 'train.max_iter=24'), flags=['--resume'])
    noted = metrics(folder)
    assert [entry['iteration'] for entry in noted] == list(range(24))
    assert all(math.isfinite(entry['total_loss']) for entry in noted)
    early, late = weights(folder / 'model_0000009.pth'), weights(folder / 'model_final.pth')
    for name, weight in late.items():
        is_frozen = name.startswith(FIRST_COLUMN)
        if is_frozen or name.startswith(BACKBONE):
            assert torch.equal(weight, early[name]) == is_frozen, name


def test_a_resumed_run_equals_an_undisturbed_one(
    run_trainer: Callable, tmp_path: Path, monkeypatch
):
    # Detectron2 saves neither the order of the images nor the random state: with a single image and
    # a segmentor, which draws nothing, both runs see the same.
    make_digits(tmp_path / 'data', images=1)
    monkeypatch.setenv('DIGITS', str(tmp_path / 'data'))
    settings = (
        *('train.seed=0', 'train.log_period=1', 'dataloader.train.total_batch_size=1'),
        *('train.max_iter=20', 'train.checkpointer.period=10'),
    )
    run_trainer(SEGMENTOR, tmp_path / 'whole', settings)
    (tmp_path / 'stopped').mkdir()
    shutil.copy(tmp_path / 'whole/model_0000009.pth', tmp_path / 'stopped')
    (tmp_path / 'stopped/last_checkpoint').write_text('model_0000009.pth')
    run_trainer(SEGMENTOR, tmp_path / 'stopped', settings, flags=['--resume'])

    whole, resumed = metrics(tmp_path / 'whole'), metrics(tmp_path / 'stopped')
    assert [entry['iteration'] for entry in resumed] == list(range(10, 20))
    for one, other in zip(whole[10:], resumed, strict=True):
        assert one['lr'] == other['lr']
    expected = weights(tmp_path / 'whole/model_final.pth')
    found = weights(tmp_path / 'stopped/model_final.pth')
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    early = weights(tmp_path / 'whole/model_0000009.pth')
    unchanged = {name for name, weight in expected.items() if torch.equal(weight, early[name])}
    # The first column has no shortcut.
    assert unchanged == {f'{BACKBONE}subnet0.alpha{level}' for level in range(4)}


def test_two_processes_train_as_one_does(run_trainer: Callable, tmp_path: Path):
    """One image for each of two gloo processes, against both in one that keeps all activations."""
    settings = (*BATCH_OF_TWO, 'train.max_iter=5', f'model.{BACKBONE}frozen_columns=1')
    settings = (*settings, 'train.checkpointer.period=1')
    run_trainer(SEGMENTOR, tmp_path / 'one', (*settings, f'model.{BACKBONE}save_memory=False'))
    # Detectron2 gives DistributedDataParallel a GPU unless it is told that there is none.
    run_trainer(SEGMENTOR, tmp_path / 'two', (*settings, 'train.ddp.device_ids=null'), processes=2)
    one, two = weights(tmp_path / 'one/model_final.pth'), weights(tmp_path / 'two/model_final.pth')
    # Of all weights together: Adam moves one whose gradient is rounding alone by a whole step.
    start = weights(tmp_path / 'one/model_0000000.pth')
    moved = torch.cat([(one[name] - start[name]).flatten() for name in one])
    apart = torch.cat([(two[name] - one[name]).flatten() for name in one])
    assert apart.norm() < 1e-3 * moved.norm()
    losses = [[e['total_loss'] for e in metrics(tmp_path / name)] for name in ('one', 'two')]
    # The first process notes the mean of both.
    torch.testing.assert_close(torch.tensor(losses[1]), torch.tensor(losses[0]), rtol=1e-4, atol=0)


def test_a_file_of_bare_keys_stops_the_script(run_trainer: Callable, tmp_path: Path):
    arch = {'channels': (24, 48, 96, 192), 'layers': (1, 1, 1, 1), 'columns': 2}
    torch.save({'model': fill(RevCol(arch)).state_dict()}, tmp_path / 'bare.pth')
    settings = (*BATCH_OF_TWO, 'train.max_iter=1', f'train.init_checkpoint={tmp_path}/bare.pth')
    done = run_trainer(SEGMENTOR, tmp_path / 'out', settings, fails=True)
    assert 'the checkpoint does not fit RevColBackbone' in done.stderr
    assert not (tmp_path / 'out/model_final.pth').exists()
