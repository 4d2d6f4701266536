"""The monitor of the columns, in real trainings, read back from what the backends wrote."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from mmengine.config import ConfigDict
from mmengine.hooks import Hook
from mmengine.model import BaseModel, MMDistributedDataParallel
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.utils.data import Dataset

from revcol_backbone import RevCol
from revcol_backbone.engine.column_monitor import ColumnMonitorHook
from tests.golden import fill

ARCH = {'channels': (4, 8, 12, 16), 'layers': (1, 1, 1, 1), 'columns': 3}
ITERATIONS = 5
VARIANCES = [f'column_variance/backbone.subnet{c}.level{i}' for c in range(3) for i in range(4)]
ALPHAS = [
    f'alpha_{which}/backbone.subnet{column}.alpha{level}'
    for column in (1, 2)
    for level in range(4)
    for which in ('min', 'max')
]


class Regression(BaseModel):
    """A backbone with a loss."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, image: Tensor, mode: str = 'loss') -> dict[str, Tensor]:
        return {'loss': sum(level.square().mean() for level in self.backbone(image))}


class Images(Dataset):
    def __len__(self) -> int:
        return 2 * ITERATIONS

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {'image': image(index)}


def image(index: int) -> Tensor:
    return torch.randn(3, 32, 48, generator=torch.Generator().manual_seed(index))


def make_model(save_memory: bool = False) -> Regression:
    torch.manual_seed(0)
    model = Regression(fill(RevCol(ARCH, save_memory=save_memory, anchor_every=0)))
    with torch.no_grad():
        model.backbone.subnet1.alpha2[0, :3, 0, 0] = torch.tensor([-2.0, 1e-5, 0.25])
    return model


def train(model: nn.Module, work_dir: Path, *hooks: Hook | dict, lr: float = 0.0) -> Runner:
    runner = Runner(
        model,
        work_dir=str(work_dir),
        train_dataloader={
            'batch_size': 2,
            'dataset': Images(),
            'collate_fn': {'type': 'default_collate'},
            'sampler': {'type': 'DefaultSampler', 'shuffle': False},
        },
        train_cfg={'by_epoch': True, 'max_epochs': 1},
        optim_wrapper={'optimizer': {'type': 'SGD', 'lr': lr}},
        custom_hooks=list(hooks),
        default_hooks={'checkpoint': None, 'logger': {'type': 'LoggerHook', 'interval': 100}},
        visualizer={
            'type': 'Visualizer',
            'vis_backends': [{'type': 'LocalVisBackend'}, {'type': 'TensorboardVisBackend'}],
        },
        experiment_name=f'{work_dir.name}_{id(model)}',
    )
    runner.train()
    return runner


def local_scalars(work_dir: Path) -> dict[int, dict[str, float]]:
    """What the local backend wrote, by step, without the losses."""
    (path,) = work_dir.rglob('scalars.json')
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return {line.pop('step'): line for line in lines if any('subnet' in name for name in line)}


def tensorboard_scalars(work_dir: Path) -> dict[int, dict[str, float]]:
    (path,) = work_dir.rglob('events.out.tfevents*')
    events = EventAccumulator(str(path)).Reload()
    found: dict[int, dict[str, float]] = {}
    for tag in events.Tags()['scalars']:
        for event in events.Scalars(tag) if 'subnet' in tag else ():
            found.setdefault(event.step, {})[tag] = event.value
    return found


def plain_levels(model: Regression, step: int) -> list[tuple[Tensor, ...]]:
    """Every column's outputs for the images of a step, without the backbone's own forward."""
    batch = torch.stack([image(2 * step - 2), image(2 * step - 1)])
    with torch.no_grad():
        stem, levels, outputs = model.backbone.stem(batch), None, []
        for index in range(3):
            levels = getattr(model.backbone, f'subnet{index}')(stem, levels)
            outputs.append(levels)
    return outputs


@pytest.mark.parametrize('save_memory', [False, True])
def test_both_backends_get_the_variances_and_the_ranges_of_alpha(save_memory, tmp_path):
    model = make_model(save_memory)
    train(model, tmp_path, ColumnMonitorHook(interval=2))
    written = local_scalars(tmp_path)
    assert list(written) == [2, 4]
    for step, scalars in written.items():
        assert sorted(scalars) == sorted(VARIANCES + ALPHAS)
        for column, levels in enumerate(plain_levels(model, step)):
            for level, output in enumerate(levels):
                found = scalars[f'column_variance/backbone.subnet{column}.level{level}']
                assert found == pytest.approx(output.var(correction=0).item(), rel=1e-4)
        assert scalars['alpha_min/backbone.subnet1.alpha2'] == pytest.approx(1e-5)
        assert scalars['alpha_max/backbone.subnet1.alpha2'] == pytest.approx(2.0)
    shown = tensorboard_scalars(tmp_path)
    assert shown.keys() == written.keys()
    for step, scalars in written.items():
        assert shown[step] == pytest.approx(scalars, rel=1e-6)


def test_training_goes_the_same_way_with_and_without_it(tmp_path):
    watched, alone = make_model(save_memory=True), make_model(save_memory=True)
    train(watched, tmp_path / 'watched', ColumnMonitorHook(interval=1), lr=0.01)
    train(alone, tmp_path / 'alone', lr=0.01)
    for name, parameter in watched.state_dict().items():
        assert torch.equal(parameter, alone.state_dict()[name]), name


class CountWatches(Hook):
    """How many forward hooks there are while the model runs, in each iteration."""

    def __init__(self) -> None:
        self.counts: list[int] = []

    def before_train(self, runner: Runner) -> None:
        runner.model.backbone.stem.register_forward_hook(lambda *_: self._count(runner.model))

    def _count(self, model: nn.Module) -> None:
        modules = [m for m in model.modules() if m is not model.backbone.stem]
        self.counts.append(sum(len(module._forward_hooks) for module in modules))


def test_nothing_is_watched_between_the_intervals_or_afterwards(tmp_path):
    model, count = make_model(), CountWatches()
    train(model, tmp_path, ColumnMonitorHook(interval=2), count)
    assert count.counts == [0, 3, 0, 3, 0]
    assert not any(module._forward_hooks for module in model.backbone.subnet0.modules())


@pytest.fixture
def _one_process() -> Iterator[None]:
    dist.init_process_group('gloo', store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures('_one_process')
def test_a_wrapper_for_distributed_training_does_not_show(tmp_path):
    model = make_model(save_memory=True)
    train(MMDistributedDataParallel(model), tmp_path, ColumnMonitorHook(interval=5))
    (scalars,) = local_scalars(tmp_path).values()
    assert sorted(scalars) == sorted(VARIANCES + ALPHAS)


class Recomputed(Regression):
    """Runs its backbone again in the backward pass, on other images."""

    def forward(self, image: Tensor, mode: str = 'loss') -> dict[str, Tensor]:
        losses = super().forward(image, mode)
        with torch.no_grad():
            self.backbone(10 * image)
        return losses


def test_of_several_passes_the_first_is_logged(tmp_path):
    model = make_model()
    train(Recomputed(model.backbone), tmp_path, ColumnMonitorHook(interval=5))
    (scalars,) = local_scalars(tmp_path).values()
    expected = plain_levels(model, 5)[2][3].var(correction=0).item()
    assert scalars['column_variance/backbone.subnet2.level3'] == pytest.approx(expected, rel=1e-4)


def test_a_config_turns_it_on_by_name_with_a_default_interval():
    hook = HOOKS.build(ConfigDict(type='ColumnMonitorHook'))
    assert isinstance(hook, ColumnMonitorHook)
    assert hook.interval == 50


def test_a_model_without_revcol_is_an_error(tmp_path):
    model = Regression(nn.ModuleList([nn.Conv2d(3, 4, 1)]))
    with pytest.raises(ValueError, match='no RevCol in the model; take it out of `custom_hooks`'):
        train(model, tmp_path, ColumnMonitorHook())


@pytest.mark.parametrize('interval', [0, -1, 2.5, True])
def test_another_interval_is_an_error(interval):
    with pytest.raises(ValueError, match=f'interval={interval!r} is not allowed'):
        ColumnMonitorHook(interval)


class Silent(Regression):
    """Leaves its backbone out, as a compiled network seems to from outside."""

    def forward(self, image: Tensor, mode: str = 'loss') -> dict[str, Tensor]:
        return {'loss': self.backbone.subnet1.alpha0.square().sum()}


def test_an_iteration_in_which_no_column_ran_is_warned_of(tmp_path):
    train(Silent(make_model().backbone), tmp_path, ColumnMonitorHook(interval=4))
    warnings = ''.join(path.read_text() for path in tmp_path.rglob('*.log'))
    assert warnings.count('ColumnMonitorHook saw no column run in this iteration') == 1
    assert not local_scalars(tmp_path)
