"""Training and testing in two processes, started as a user starts them: by PyTorch and by Slurm.

The processes are on CPUs and talk over gloo; ``tests/cpu_processes.py`` and ``on_cpu_processes``
hold what differs from GPUs, ``tests/slurm`` what a cluster would bring.
"""

from __future__ import annotations

import pytest

from tests.configs import ROOT, mim
from tests.tiny_runs import on_cpu_processes, tiny_detector, tiny_segmentor

pytestmark = pytest.mark.slow
PYTORCH = ('--launcher', 'pytorch', '--gpus', '2')
SLURM = (
    *('--launcher', 'slurm', '--gpus', '2', '--gpus-per-node', '2', '--partition', 'any'),
    *('--srun-args', '--job-name=tiny'),
)


@pytest.fixture(autouse=True)
def _cluster_of_this_machine(monkeypatch):
    monkeypatch.setenv('PATH', str(ROOT / 'tests/slurm'), prepend=':')


def test_a_detector_trains_under_the_pytorch_launcher(tmp_path):
    config = on_cpu_processes(tiny_detector('revcol_t_cascade', tmp_path, images=4))
    config.dump(tmp_path / 'config.py')
    output = mim('train', 'mmdet', tmp_path / 'config.py', *PYTORCH, cwd=tmp_path)
    assert 'GPU number: 2' in output
    # Four images, two at a time in each of two processes.
    assert 'Epoch(train) [1][1/1]' in output
    assert 'coco/segm_mAP' in output
    assert (tmp_path / 'work/epoch_1.pth').is_file()


def test_a_segmentor_trains_under_slurm_and_is_tested_under_the_pytorch_launcher(tmp_path):
    config = on_cpu_processes(tiny_segmentor('revcol_t_upernet', tmp_path, images=4))
    config.dump(tmp_path / 'config.py')
    output = mim('train', 'mmseg', tmp_path / 'config.py', *SLURM, cwd=tmp_path)
    assert 'GPU number: 2' in output
    assert "launcher = 'slurm'" in output
    assert 'mIoU' in output

    checkpoint = tmp_path / 'work/iter_2.pth'
    arguments = ('test', 'mmseg', tmp_path / 'config.py', '--checkpoint', checkpoint)
    output = mim(*arguments, *PYTORCH, '--tta', cwd=tmp_path)
    assert f'Load checkpoint from {checkpoint}' in output
    assert 'Iter(test) [2/2]' in output
    assert 'mIoU' in output
