"""The device of the tests: the CPU, or the one of ``bash tools/run_tests.sh --device cuda``."""

from __future__ import annotations

import os

import torch

DEVICE = torch.device(os.environ.get('REVCOL_TEST_DEVICE', 'cpu'))
if DEVICE.type == 'cpu':
    # OpenMMLab's runners would take a GPU that they see.
    os.environ['CUDA_VISIBLE_DEVICES'] = ''


def process_device(rank: int) -> torch.device:
    """The device of one of two processes: a card each where there are two, else the CPU."""
    has_two = DEVICE.type == 'cuda' and torch.cuda.device_count() >= 2
    return torch.device('cuda', rank) if has_two else torch.device('cpu')


def process_backend(rank: int) -> str:
    """What these processes talk by."""
    return 'nccl' if process_device(rank).type == 'cuda' else 'gloo'
