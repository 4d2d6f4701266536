"""A run that is killed at any moment continues as if nothing had happened."""

from __future__ import annotations

import multiprocessing
import os
import random
import time
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from revcol_backbone.checkpoints.reading import read_checkpoint
from tests.engine.tiny_training import BATCH, IMAGES, load, make_config, train

KILLS = 10  # for each of the two kinds of loops


@HOOKS.register_module(force=True)
class StopAt(Hook):
    """Ends a run, without any clean-up of its own, after an iteration."""

    priority = 'LOWEST'

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration

    def after_train_iter(self, runner: object, **_: object) -> None:
        if runner.iter + 1 == self.iteration:
            raise KeyboardInterrupt


@HOOKS.register_module(force=True)
class TellStart(Hook):
    """Sets an event when training begins."""

    event: Event | None = None

    def before_train_iter(self, runner: object, **_: object) -> None:
        self.event.set()


def train_on_a_slow_disk(config: Config, resume: bool, begins: Event, writes: Event) -> None:
    """Train with a disk that takes a while, and tell when it begins to write."""
    torch.set_num_threads(1)
    flush = os.fsync

    def slow_flush(descriptor: int) -> None:
        writes.set()
        time.sleep(0.2)
        flush(descriptor)

    os.fsync = slow_flush
    TellStart.event = begins
    config.custom_hooks.append(dict(type='TellStart'))
    train(config, resume)


def assert_same_run(path: Path, undisturbed: Path) -> None:
    """Compare weights, moving averages, optimizer, schedules and the losses of all iterations."""
    found, expected = load(path), load(undisturbed)
    assert found.keys() == expected.keys()
    for entry in ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers'):
        assert_close(found[entry], expected[entry], entry)
    # Not the metrics: a validation after the checkpoint is not in it, and not repeated.
    for name in ('train/loss', 'train/lr'):
        histories = [
            content['message_hub']['log_scalars'][name]._log_history
            for content in (found, expected)
        ]
        assert_close(*map(torch.tensor, histories), name)


def assert_close(found: object, expected: object, where: str) -> None:
    if isinstance(expected, torch.Tensor):
        torch.testing.assert_close(found, expected, msg=lambda text: f'{where}: {text}')
    elif isinstance(expected, (dict, list, tuple)):
        assert len(found) == len(expected), where
        keys = expected if isinstance(expected, dict) else range(len(expected))
        for key in keys:
            assert_close(found[key], expected[key], f'{where}.{key}')
    else:
        assert found == (pytest.approx(expected) if isinstance(expected, float) else expected), (
            where
        )


def assert_all_whole(folder: Path) -> None:
    for path in folder.glob('*.pth'):
        read_checkpoint(path)  # checks the sums of the archive
    record = folder / 'last_checkpoint'
    if record.exists():
        assert Path(record.read_text()) in folder.glob('*.pth')


@pytest.mark.slow
@pytest.mark.parametrize(('by_epoch', 'total'), [(True, 25), (False, 100)])
def test_a_run_killed_at_random_moments_ends_as_an_undisturbed_one(tmp_path, by_epoch, total):
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload([__name__])
    moments = random.Random(total)
    interval = 1 if by_epoch else 4
    config = make_config(tmp_path / 'killed', by_epoch, total, interval)
    hits = 0
    for kill in range(KILLS + 1):
        begins, writes = context.Event(), context.Event()
        process = context.Process(
            target=train_on_a_slow_disk, args=(config, kill > 0, begins, writes)
        )
        process.start()
        if kill == KILLS:
            process.join()
            assert process.exitcode == 0
            break
        # Every other time a checkpoint or `last_checkpoint` is being written.
        (writes if kill % 2 else begins).wait()
        process.join(moments.uniform(0, 0.2 if kill % 2 else 1.0))
        assert process.is_alive(), 'the run is too short for so many kills'
        process.kill()
        process.join()
        assert_all_whole(tmp_path / 'killed')
        hits += any((tmp_path / 'killed').glob('*.part'))
    assert hits >= KILLS // 2 - 1, 'too few kills hit a file that was being written'
    assert not list((tmp_path / 'killed').glob('*.part'))

    train(make_config(tmp_path / 'undisturbed', by_epoch, total, interval))
    name = f'epoch_{total}.pth' if by_epoch else f'iter_{total}.pth'
    assert_same_run(tmp_path / 'killed' / name, tmp_path / 'undisturbed' / name)


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize(('by_epoch', 'total'), [(True, 3), (False, 14)])
def test_a_resumed_run_is_the_same_whatever_processes_load_its_data(
    tmp_path, by_epoch, total, workers
):
    interval = 1 if by_epoch else 5
    configs = [make_config(tmp_path / name, by_epoch, total, interval) for name in ('one', 'other')]
    configs[1].train_dataloader.num_workers = workers
    configs[1].train_dataloader.persistent_workers = workers > 0
    train(configs[0])
    configs[1].custom_hooks.append(dict(type='StopAt', iteration=11))
    with pytest.raises(KeyboardInterrupt):
        train(configs[1])
    configs[1].custom_hooks.pop()
    train(configs[1], resume=True)
    name = f'epoch_{total}.pth' if by_epoch else f'iter_{total}.pth'
    assert_same_run(tmp_path / 'other' / name, tmp_path / 'one' / name)


def test_a_run_without_a_seed_continues_with_the_one_it_drew(tmp_path):
    config = make_config(tmp_path, True, 3)
    config.pop('randomness')
    config.custom_hooks.append(dict(type='StopAt', iteration=IMAGES // BATCH + 2))
    with pytest.raises(KeyboardInterrupt):
        train(config)
    seed = load(tmp_path / 'epoch_1.pth')['meta']['seed']
    config.custom_hooks.pop()
    train(config, resume=True)

    undisturbed = make_config(tmp_path / 'undisturbed', True, 3)
    undisturbed.randomness = dict(seed=seed)
    train(undisturbed)
    assert_same_run(tmp_path / 'epoch_3.pth', tmp_path / 'undisturbed/epoch_3.pth')


def test_past_batches_are_not_loaded_again(tmp_path, monkeypatch):
    config = make_config(tmp_path, False, 12, 10)
    config.custom_hooks.append(dict(type='StopAt', iteration=11))
    with pytest.raises(KeyboardInterrupt):
        train(config)
    config.custom_hooks.pop()
    config.val_dataloader = config.val_evaluator = config.val_cfg = None
    loaded = []
    from tests.engine import tiny_training

    load_one = tiny_training.TinyImages.prepare_data
    monkeypatch.setattr(
        tiny_training.TinyImages,
        'prepare_data',
        lambda self, index: loaded.append(index) or load_one(self, index),
    )
    train(config, resume=True)
    assert len(loaded) == 2 * BATCH


@pytest.fixture
def three_epochs(tmp_path):
    """A config, and a folder with the checkpoints of the last two of three epochs."""
    config = make_config(tmp_path, True, 3)
    train(config)
    config.train_cfg.max_epochs = 4
    return config


def log_of(folder: Path) -> str:
    return ''.join(path.read_text() for path in sorted(folder.rglob('*.log')))


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


@pytest.mark.parametrize('record', ['', 'nowhere/epoch_9.pth', None])
def test_the_newest_checkpoint_is_found_whatever_last_checkpoint_says(
    three_epochs, tmp_path, record
):
    (tmp_path / 'last_checkpoint').unlink()
    if record is not None:
        (tmp_path / 'last_checkpoint').write_text(record)
    runner = train(three_epochs, resume=True)
    assert Path(runner._load_from) == tmp_path / 'epoch_3.pth'
    assert load(tmp_path / 'epoch_4.pth')['meta']['iter'] == 4 * IMAGES // BATCH


@pytest.mark.parametrize('how', [damage, lambda path: path.write_bytes(b'')])
def test_a_damaged_newest_checkpoint_is_passed_over_with_a_line_in_the_log(
    three_epochs, tmp_path, how
):
    three_epochs.log_level = 'INFO'
    how(tmp_path / 'epoch_3.pth')
    runner = train(three_epochs, resume=True)
    assert Path(runner._load_from) == tmp_path / 'epoch_2.pth'
    assert f'{tmp_path / "epoch_3.pth"} cannot be used: ' in log_of(tmp_path)
    assert f'Training resumes from {tmp_path / "epoch_2.pth"}' in log_of(tmp_path)
    read_checkpoint(tmp_path / 'epoch_3.pth')  # written again


def test_a_bit_that_flipped_counts_as_damage(three_epochs, tmp_path):
    path = tmp_path / 'epoch_3.pth'
    content = bytearray(path.read_bytes())
    weight = next(iter(torch.load(path)['state_dict'].values()))
    content[content.index(weight.numpy().tobytes())] ^= 1
    path.write_bytes(content)
    runner = train(three_epochs, resume=True)
    assert Path(runner._load_from) == tmp_path / 'epoch_2.pth'


def test_nothing_is_overwritten_where_all_checkpoints_are_damaged(three_epochs, tmp_path):
    for path in tmp_path.glob('*.pth'):
        damage(path)
    before = {path: path.read_bytes() for path in tmp_path.glob('*.pth')}
    with pytest.raises(RuntimeError, match=r'no checkpoint in .* can be resumed from: .*epoch_3'):
        train(three_epochs, resume=True)
    assert {path: path.read_bytes() for path in tmp_path.glob('*.pth')} == before


def test_a_damaged_file_that_was_asked_for_is_an_error(three_epochs, tmp_path):
    damage(tmp_path / 'epoch_3.pth')
    three_epochs.load_from = str(tmp_path / 'epoch_3.pth')
    with pytest.raises(RuntimeError, match='epoch_3.pth is not a checkpoint, or it is damaged'):
        train(three_epochs, resume=True)


def test_resume_without_any_checkpoint_starts_with_a_warning(tmp_path):
    train(make_config(tmp_path, True, 1), resume=True)
    assert '--resume found no checkpoint' in log_of(tmp_path)
    assert (tmp_path / 'epoch_1.pth').is_file()


def test_the_replaced_checkpoint_stays_until_the_new_one_is_written(tmp_path, monkeypatch):
    config = make_config(tmp_path, True, 2)
    config.default_hooks.checkpoint.update(max_keep_ckpts=1, save_best='tiny/score', rule='less')
    seen = []
    replace = os.replace

    def watched_replace(source: Path, target: Path) -> None:
        seen.append(sorted(path.name for path in tmp_path.glob('*.pth')))
        replace(source, target)

    monkeypatch.setattr(os, 'replace', watched_replace)
    train(config)
    assert ['best_tiny_score_epoch_1.pth', 'epoch_1.pth'] in seen
    assert all(names for names in seen[1:])
    names = sorted(path.name for path in tmp_path.glob('*.pth'))
    assert names[-1] == 'epoch_2.pth'
    assert len(names) == 2  # the last and the best
