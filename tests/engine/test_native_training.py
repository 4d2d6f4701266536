"""A training of mmengine whose blocks run as C++ functions."""

from __future__ import annotations

import torch
from mmengine.model import BaseModel
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from revcol_backbone import RevCol
from tests.golden import fill, image

ARCH = {'channels': (4, 8, 12, 16), 'layers': (1, 1, 1, 1), 'columns': 2}


class MeanOfFeatures(BaseModel):
    """A model with a RevCol inside it, whose loss is a number."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = fill(RevCol(ARCH))

    def forward(self, inputs: list[Tensor], mode: str) -> dict[str, Tensor]:
        return {'loss': self.backbone(torch.stack(inputs))[-1].square().mean()}


def train(work_dir: str, hooks: list[dict]) -> tuple[BaseModel, int]:
    """The trained model, and how many backward passes of its blocks ran in C++."""
    runner = Runner(
        model=MeanOfFeatures(),
        work_dir=work_dir,
        train_dataloader=dict(
            dataset=[dict(inputs=image((3, 64, 64), str(index))) for index in range(2)],
            sampler=dict(type='DefaultSampler', shuffle=False),
        ),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        custom_hooks=hooks,
        experiment_name=f'native_training_{len(hooks)}',
    )
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        runner.train()
    counts = {event.key: event.count for event in profiler.key_averages()}
    return runner.model, counts.get('revcol_backbone::perceptron_backward', 0)


def test_a_training_with_the_hook_takes_the_same_steps(tmp_path) -> None:
    found, count = train(str(tmp_path), [dict(type='NativeTrainingHook')])
    assert count > 0
    # Afterwards everything is as before.
    expected, count = train(str(tmp_path), [])
    assert count == 0
    initial = dict(MeanOfFeatures().named_parameters())
    for name, parameter in expected.named_parameters():
        torch.testing.assert_close(found.get_parameter(name), parameter, rtol=1e-4, atol=1e-6)
    assert any(not torch.equal(p, initial[name]) for name, p in expected.named_parameters())


def test_it_is_registered() -> None:
    assert HOOKS.get('NativeTrainingHook') is not None
