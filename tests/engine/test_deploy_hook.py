"""A test run of mmengine, on the folded network."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import Tensor

from revcol_backbone import RevCol, SwitchToDeployHook
from tests.golden import fill, image

ARCH = {'channels': (4, 8, 12, 16), 'layers': (1, 1, 1, 1), 'columns': 2}


class MeanOfFeatures(BaseModel):
    """A model with a RevCol inside it, whose prediction is a number."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = fill(RevCol(ARCH))

    def forward(self, inputs: list[Tensor], mode: str) -> list[Tensor]:
        return [self.backbone(torch.stack(inputs))[-1].mean()]


class Prediction(BaseMetric):
    """The predicted number itself."""

    default_prefix = 'test'

    def process(self, data_batch: object, data_samples: list[Tensor]) -> None:
        self.results += [float(sample) for sample in data_samples]

    def compute_metrics(self, results: list[float]) -> dict[str, float]:
        return {'prediction': results[0]}


def predict(work_dir: Path, checkpoint: Path, hooks: list[dict]) -> tuple[float, BaseModel]:
    runner = Runner(
        model=MeanOfFeatures(),
        work_dir=str(work_dir),
        test_dataloader=dict(
            dataset=[dict(inputs=image((3, 32, 32)))],
            sampler=dict(type='DefaultSampler', shuffle=False),
        ),
        test_evaluator=Prediction(),
        test_cfg=dict(),
        load_from=str(checkpoint),
        custom_hooks=hooks,
        experiment_name=f'{work_dir.name}_{len(hooks)}',
    )
    return runner.test()['test/prediction'], runner.model


def test_a_test_loads_the_trained_checkpoint_and_runs_the_folded_network(tmp_path: Path) -> None:
    trained = MeanOfFeatures()
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.mul_(1.1)
    checkpoint = tmp_path / 'trained.pth'
    torch.save({'state_dict': trained.state_dict()}, checkpoint)

    plain, _ = predict(tmp_path, checkpoint, [])
    found, model = predict(tmp_path, checkpoint, [dict(type='SwitchToDeployHook')])
    assert model.backbone.deploy
    assert abs(found / plain - 1) < 1e-5
    with torch.no_grad():
        (untrained,) = MeanOfFeatures()([image((3, 32, 32))], 'tensor')
    assert abs(plain / float(untrained) - 1) > 1e-3


def test_native_blocks_are_an_option_of_the_hook(tmp_path: Path) -> None:
    checkpoint = tmp_path / 'trained.pth'
    torch.save({'state_dict': MeanOfFeatures().state_dict()}, checkpoint)
    plain, _ = predict(tmp_path, checkpoint, [])
    found, model = predict(tmp_path, checkpoint, [dict(type='SwitchToDeployHook', native=True)])
    assert abs(found / plain - 1) < 1e-5
    kinds = {type(module).__name__ for module in model.modules()}
    assert 'NativeBlock' in kinds


def test_native_blocks_of_a_model_without_a_revcol_are_refused() -> None:
    runner = SimpleNamespace(model=torch.nn.Linear(1, 1))
    with pytest.raises(ValueError, match='found no RevCol'):
        SwitchToDeployHook(native=True).before_test(runner)
