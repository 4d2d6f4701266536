"""A signal ends a run with all of its processes, and with a checkpoint if one was asked for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.configs import ROOT
from tests.engine.test_kill_and_resume import assert_same_run
from tests.engine.tiny_training import load, make_config, train

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != 'linux', reason='looks at processes in /proc'),
]
MARK = 'REVCOL_TEST_RUN'


class Run:
    """A training run in processes of its own, recognized by a variable of their environment."""

    def __init__(self, config, folder: Path, *command: str) -> None:
        self.folder = folder
        config.custom_imports = dict(imports=['tests.cpu_processes', 'tests.engine.tiny_training'])
        config.dump(folder / 'config.py')
        environment = dict(
            os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES=''
        )
        environment[MARK] = str(folder)
        with (folder / 'output.txt').open('w') as output:
            self.process = subprocess.Popen(
                [sys.executable, '-W', 'ignore', *command],
                env=environment,
                cwd=folder,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        return (self.folder / 'output.txt').read_text()

    def processes(self) -> dict[int, str]:
        """The command line of each process of the run that is alive."""
        found = {}
        for folder in Path('/proc').glob('[0-9]*'):
            try:
                environment = (folder / 'environ').read_bytes().decode(errors='replace')
                state = (folder / 'stat').read_text().rpartition(')')[2].split()[0]
                command = (folder / 'cmdline').read_bytes().decode(errors='replace')
            except OSError:
                continue
            if f'{MARK}={self.folder}\0' in environment and state != 'Z':
                found[int(folder.name)] = command
        return found

    def wait_for(self, condition, seconds: float, what: str) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f'{what}: {self.output[-3000:]}'
            time.sleep(0.1)

    def wait_for_training(self) -> None:
        self.wait_for(
            lambda: any(self.folder.rglob('scalars.json')) and 'loss' in self.scalars(),
            120,
            'training does not begin',
        )

    def scalars(self) -> str:
        return ''.join(path.read_text() for path in self.folder.rglob('scalars.json'))


@pytest.fixture
def start(tmp_path) -> Iterator:
    runs = []

    def start_run(config, *command: str) -> Run:
        runs.append(Run(config, tmp_path, *command))
        return runs[-1]

    yield start_run
    for run in runs:
        for pid in run.processes():
            os.kill(pid, signal.SIGKILL)
        run.process.wait()


def long_run(folder: Path, workers: int = 2):
    config = make_config(folder / 'work', True, 10_000, 10_000)
    config.train_dataloader.num_workers = workers
    config.default_hooks.logger = dict(type='LoggerHook', interval=1)
    return config


def mmseg_train(*arguments: str) -> tuple[str, ...]:
    return '-m', 'mim', 'train', 'mmseg', 'config.py', *arguments


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_mim_alone_ends_the_training_and_its_loaders(start, tmp_path, number):
    run = start(long_run(tmp_path), *mmseg_train())
    run.wait_for_training()
    assert len(run.processes()) >= 4  # mim, the training, two loaders
    run.process.send_signal(number)
    # The promise is 10 seconds; a machine that is busy with other tests may take longer.
    run.wait_for(lambda: not run.processes(), 30, f'left: {run.processes()}')


def test_control_c_reaches_all_processes_and_none_is_left(start, tmp_path):
    run = start(long_run(tmp_path), *mmseg_train())
    run.wait_for_training()
    os.killpg(run.process.pid, signal.SIGINT)
    run.wait_for(lambda: not run.processes(), 30, f'left: {run.processes()}')
    assert 'SIGINT: ending the training run' in run.output


def test_loaders_end_with_a_training_that_is_killed(start, tmp_path):
    run = start(long_run(tmp_path), *mmseg_train())
    run.wait_for_training()
    for pid, command in run.processes().items():
        if 'train.py' in command:
            os.kill(pid, signal.SIGKILL)
            break
    run.wait_for(lambda: not run.processes(), 30, f'left: {run.processes()}')


def test_a_checkpoint_that_was_asked_for_is_written_and_resumed_in_the_epoch(start, tmp_path):
    config = long_run(tmp_path, workers=0)
    config.train_cfg = dict(by_epoch=True, max_epochs=3, val_interval=3)
    config.default_hooks.checkpoint.interval = 3
    config.param_scheduler = []
    for hook in config.custom_hooks:
        if hook.type == 'TerminationHook':
            hook.save = True
    config.custom_hooks.append(dict(type='SignalAt', iteration=9, number=int(signal.SIGTERM)))
    run = start(config, *mmseg_train())
    run.wait_for(lambda: run.process.poll() is not None, 120, 'does not end')
    assert 'interrupted_iter_9.pth holds iteration 9; continue with --resume' in run.output
    assert load(tmp_path / 'work/interrupted_iter_9.pth')['meta']['iter'] == 9

    config.custom_hooks.pop()
    train(config, resume=True)
    config.work_dir = str(tmp_path / 'undisturbed')
    train(config)
    assert_same_run(tmp_path / 'work/epoch_3.pth', tmp_path / 'undisturbed/epoch_3.pth')


PYTORCH = ('--launcher', 'pytorch', '--gpus', '2')


def test_two_processes_train_and_measure_as_one_does(start, tmp_path):
    config = make_config(tmp_path / 'two', True, 2)
    config.model.drop_path_rate = 0.0  # drawn by each process for its own images
    # Adam would blow up the rounding of gradients that are nearly 0.
    config.optim_wrapper.optimizer = dict(type='SGD', lr=0.05, momentum=0.9)
    config.model_wrapper_cfg = dict(type='MMDistributedDataParallel', device_ids=None)
    config.default_hooks.logger = dict(type='LoggerHook', interval=1)
    run = start(config, *mmseg_train(*PYTORCH))
    run.wait_for(lambda: run.process.poll() is not None, 240, 'does not end')
    assert run.process.returncode == 0, run.output[-3000:]

    config.pop('model_wrapper_cfg')
    config.train_dataloader.batch_size *= 2
    config.work_dir = str(tmp_path / 'one')
    train(config)
    two, one = (load(tmp_path / name / 'epoch_2.pth') for name in ('two', 'one'))
    # The momentum is a sum of the gradients.
    for index, state in one['optimizer']['state'].items():
        found = two['optimizer']['state'][index]['momentum_buffer']
        scale = state['momentum_buffer'].abs().max().item()
        assert (found - state['momentum_buffer']).abs().max() <= 1e-4 * scale + 1e-9
    scores = [
        [
            json.loads(line)['tiny/score']
            for line in path.read_text().splitlines()
            if 'score' in line
        ]
        for name in ('two', 'one')
        for path in (tmp_path / name).glob('*/vis_data/scalars.json')
    ]
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)


def two_long_processes(tmp_path):
    config = long_run(tmp_path, workers=0)
    config.model_wrapper_cfg = dict(type='MMDistributedDataParallel', device_ids=None)
    for hook in config.custom_hooks:
        if hook.type == 'HeartbeatHook':
            hook.timeout = 10
    return config


def ranks(run: Run) -> list[int]:
    """The training processes, without the launchers."""
    commands = run.processes().items()
    return sorted(
        pid
        for pid, words in commands
        if 'train.py' in words and 'torch.distributed' not in words and '\0mim\0' not in words
    )


def test_a_process_that_dies_ends_the_run_within_a_minute_with_its_reason(start, tmp_path):
    run = start(two_long_processes(tmp_path), *mmseg_train(*PYTORCH))
    run.wait_for_training()
    os.kill(ranks(run)[1], signal.SIGKILL)
    run.wait_for(lambda: not run.processes(), 60, f'left: {run.processes()}')
    assert run.process.wait() != 0
    assert 'Signal 9 (SIGKILL)' in run.output


def test_a_process_that_stops_answering_ends_the_run_with_its_name(start, tmp_path):
    run = start(two_long_processes(tmp_path), *mmseg_train(*PYTORCH))
    run.wait_for_training()
    stopped = ranks(run)[1]
    os.kill(stopped, signal.SIGSTOP)
    run.wait_for(lambda: f'(pid {stopped} on ' in run.output, 60, 'the silent process is not named')
    assert 'has not answered for 10 s' in run.output
    run.wait_for(lambda: not run.processes(), 90, f'left: {run.processes()}')
