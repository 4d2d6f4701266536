"""Weak logit distillation on against off: IC-ResNet-18 on scikit-learn's digits.

    python tools/benchmarks/distillation.py
    python tools/benchmarks/distillation.py --seeds 2

The teacher is the ordinary ResNet-18, trained by the same schedule on the same images. Students
start from new weights. All runs of a seed have the same images, order and initial weights. The
statistics of BatchNorm are those of the training images when a model is measured.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from mmengine.logging import MMLogger
from mmpretrain.models.backbones import ResNet
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from revcol_backbone.checkpoints.writing import write_atomically
from revcol_backbone.ic.classification import ICResNet
from revcol_backbone.pretraining.distillation import distillation_loss, falling

ROOT = Path(__file__).resolve().parents[2]
WIDTH, SIZE, CLASSES = 16, 32, 10
TRAIN_IMAGES, BATCH_SIZE = 400, 50
EPOCHS, MEASURED = 10, (3, 6, 10)
LEARNING_RATE, WEIGHT_DECAY = 2e-3, 0.05
# temperature, coefficient, fraction; None trains without a teacher.
SETTINGS: tuple[tuple[float, float, float] | None, ...] = (
    None,
    (1.0, 1.0, 0.5),
    (2.0, 1.0, 0.5),
    (4.0, 1.0, 0.5),
    (1.0, 3.0, 0.5),
    (1.0, 1.0, 1.0),
)


class Classifier(nn.Sequential):
    """A narrow ResNet-18 with a linear head; ``backbone`` is ``ResNet`` or ``ICResNet``."""

    def __init__(self, backbone: type[nn.Module]) -> None:
        network = backbone(18, base_channels=WIDTH, in_channels=1, out_indices=(3,))
        network.init_weights()
        super().__init__(network, Pool(), nn.Linear(8 * WIDTH, CLASSES))


class Pool(nn.Module):
    """Averages the last of a backbone's outputs over all places."""

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        return features[-1].mean(dim=(-2, -1))


def main(arguments: Sequence[str] | None = None) -> None:
    """Train everything and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--seeds', type=int, default=5, help='runs of each, from seed 0 on')
    parser.add_argument('--out', type=Path, default=ROOT / 'work_dirs/distillation/results.md')
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    MMLogger.get_current_instance().setLevel('ERROR')  # of what is initialized how
    images, labels = read_digits()
    found: dict[object, list[list[float]]] = {'teacher': [], **{key: [] for key in SETTINGS}}
    for seed in range(args.seeds):
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
        split = order[:TRAIN_IMAGES], order[TRAIN_IMAGES:]
        torch.manual_seed(seed)
        teacher = Classifier(ResNet)
        found['teacher'].append(train(teacher, images, labels, split, seed))
        for setting in SETTINGS:
            torch.manual_seed(seed)
            student = Classifier(ICResNet)
            found[setting].append(train(student, images, labels, split, seed, teacher, setting))
            print(f'seed {seed}, {describe(setting)}: {found[setting][-1]}', flush=True)
    text = table(found)
    print(text)
    write_atomically(args.out, lambda path: path.write_text(text + '\n'))


def train(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    split: tuple[Tensor, Tensor],
    seed: int,
    teacher: nn.Module | None = None,
    setting: tuple[float, float, float] | None = None,
) -> list[float]:
    """Train a model; its accuracy on the other images, in percent, after the measured epochs."""
    training, test = split
    decayed = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [dict(params=decayed, weight_decay=WEIGHT_DECAY), dict(params=rest, weight_decay=0.0)],
        lr=LEARNING_RATE,
    )
    steps = EPOCHS * TRAIN_IMAGES // BATCH_SIZE
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, steps)
    batches = torch.Generator().manual_seed(seed)
    accuracies, step = [], 0
    for epoch in range(1, EPOCHS + 1):
        model.train()
        for batch in training[torch.randperm(TRAIN_IMAGES, generator=batches)].split(BATCH_SIZE):
            logits = model(images[batch])
            loss = F.cross_entropy(logits, labels[batch])
            if setting is not None:
                temperature, coefficient, fraction = setting
                with torch.no_grad():
                    taught = teacher(images[batch])
                weight = coefficient * falling(step, steps, fraction)
                loss = loss + weight * distillation_loss(logits, taught, temperature)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            step += 1
        if epoch in MEASURED:
            # At a high learning rate the running averages lag too far behind the weights.
            update_bn(images[training].split(BATCH_SIZE), model)
            accuracies.append(measure(model, images[test], labels[test]))
    model.eval().requires_grad_(False)
    return accuracies


@torch.no_grad()
def measure(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The share of the images that are classified rightly, in percent."""
    model.eval()
    found = torch.cat([model(part).argmax(1) for part in images.split(200)])
    return 100 * float((found == labels).float().mean())


def read_digits() -> tuple[Tensor, Tensor]:
    """The 1,797 digits, (1797, 1, 32, 32), and their classes."""
    digits = load_digits()
    images = torch.from_numpy(digits.images).float().unsqueeze(1) / 8 - 1
    images = F.interpolate(images, size=(SIZE, SIZE), mode='bilinear')
    return images, torch.from_numpy(digits.target).long()


def table(found: dict[object, list[list[float]]]) -> str:
    """Mean and standard deviation over the seeds after the measured epochs."""
    columns = ' | '.join(f'epoch {epoch}' for epoch in MEASURED)
    lines = [f'| | {columns} |', '|---' * (len(MEASURED) + 1) + '|']
    for setting, runs in found.items():
        cells = [
            f'{statistics.mean(values):.1f} ± {statistics.pstdev(values):.1f}'
            for values in zip(*runs, strict=True)
        ]
        lines.append(f'| {describe(setting)} | {" | ".join(cells)} |')
    return '\n'.join(lines)


def describe(setting: object) -> str:
    """A row's name."""
    if setting == 'teacher':
        return 'ResNet-18, the teacher'
    if setting is None:
        return 'IC-ResNet-18 alone'
    temperature, coefficient, fraction = setting
    return f'taught, T = {temperature:g}, c(0) = {coefficient:g}, fraction {fraction:g}'


if __name__ == '__main__':
    main()
