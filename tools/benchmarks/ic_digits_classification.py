"""One training of ic_digits.py's classifier on the 8 x 8 digits."""

from __future__ import annotations

from collections import defaultdict

import torch
import torch.nn.functional as F
from ic_digits_forms import LOADING_FORMS, PLAIN, build_classifier
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from revcol_backbone.ic import ICConv2d, measure_active_shares

WIDTH = 16  # channels of the first stage
TRAIN_IMAGES, IMAGE_SIZE = 200, 32
EPOCHS, BATCH_SIZE = 12, 25
POINTS = 6  # of a curve
LEARNING_RATE, WEIGHT_DECAY = 2e-3, 0.05


def classify(form: str, seed: int) -> dict:
    """Train and test; the accuracy at some epochs, and the active shares at both ends."""
    images, labels = read_digits()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    train, test = order[:TRAIN_IMAGES], order[TRAIN_IMAGES:]
    torch.manual_seed(seed)
    model = build_classifier(form, WIDTH)
    shares = [measure_shares(model, images[train])]
    optimizer = torch.optim.AdamW(group_parameters(model), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, EPOCHS * TRAIN_IMAGES // BATCH_SIZE
    )
    batches = torch.Generator().manual_seed(seed)
    curve = []
    for epoch in range(1, EPOCHS + 1):
        model.train()
        for batch in train[torch.randperm(len(train), generator=batches)].split(BATCH_SIZE):
            loss = F.cross_entropy(model(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        if epoch % (EPOCHS // POINTS) == 0:
            curve.append((epoch, accuracy(model, images[test], labels[test])))
    shares.append(measure_shares(model, images[train]))
    result = dict(curve=curve, multiply_adds=count_multiply_adds(model), shares=shares)
    if form == PLAIN:
        result['loaded'] = measure_loading(model, images[test], labels[test])
    return result


def read_digits() -> tuple[Tensor, Tensor]:
    """Read scikit-learn's digits, enlarged: images in -1 to 1 (N, 1, H, W) and labels (N)."""
    digits = load_digits()
    images = torch.from_numpy(digits.images).float().unsqueeze(1) / 8 - 1
    images = F.interpolate(images, size=(IMAGE_SIZE,) * 2, mode='bilinear')
    return images, torch.from_numpy(digits.target).long()


def group_parameters(model: nn.Module) -> list[dict]:
    """Weight decay for weights, none for biases, norms and collision parameters."""
    groups = defaultdict(list)
    for parameter in model.parameters():
        groups[WEIGHT_DECAY if parameter.ndim > 1 else 0.0].append(parameter)
    return [dict(params=params, weight_decay=decay) for decay, params in groups.items()]


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    model.eval()
    found = torch.cat([model(part).argmax(1) for part in images.split(200)])
    return float((found == labels).float().mean())


@torch.no_grad()
def count_multiply_adds(model: nn.Module) -> int:
    model.eval()
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 1, IMAGE_SIZE, IMAGE_SIZE))
    return counter.get_total_flops() // 2


@torch.no_grad()
def measure_loading(basic: nn.Module, images: Tensor, labels: Tensor) -> dict[str, list[float]]:
    """How far the features move, and the accuracy, where units take a trained basic model over.

    The distance is that of the last features, relative to their own length.
    """
    basic.eval()
    expected = torch.cat([basic[0](part)[-1] for part in images.split(200)])
    found = {}
    for form in LOADING_FORMS:
        model = build_classifier(form, WIDTH)
        model.load_state_dict(basic.state_dict(), strict=False)
        for module in model.modules():
            if isinstance(module, ICConv2d):
                module.reset_collision()  # to the mean of the loaded weights
        model.eval()
        features = torch.cat([model[0](part)[-1] for part in images.split(200)])
        distance = float((features - expected).norm() / expected.norm())
        found[form] = [distance, accuracy(model, images, labels)]
    return found


def measure_shares(model: nn.Module, images: Tensor) -> dict[str, float]:
    """The shares of active terms, with the statistics of the batch as in training."""
    if not any(isinstance(module, ICConv2d) for module in model.modules()):
        return {}
    kept = {key: value.clone() for key, value in model.state_dict().items()}
    model.train()
    shares = measure_active_shares(model, lambda: model(images[:100]))
    model.load_state_dict(kept)
    return shares
