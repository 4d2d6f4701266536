import math

import mmcv.ops
import pytest
import torch
from mmdet.models.losses import FocalLoss

GAMMAS = [0.0, 0.5, 2.0]
TARGETS = torch.tensor([0, 2, 3, 1])  # of three classes: 3 is background


def logits(dtype=torch.double, device='cpu'):
    generator = torch.Generator().manual_seed(0)
    return (3 * torch.randn(4, 3, generator=generator, dtype=torch.double)).to(device, dtype)


@pytest.mark.parametrize('weight', [None, [0.5, 1.5, 2.0]])
@pytest.mark.parametrize('gamma', GAMMAS)
def test_sigmoid_loss_equals_its_formula(gamma, weight, device):
    loss = mmcv.ops.sigmoid_focal_loss(
        logits(device=device),
        TARGETS.to(device),
        gamma,
        0.3,
        None if weight is None else torch.tensor(weight, dtype=torch.double, device=device),
        'none',
    )
    for (sample, number), value in zip(
        torch.cartesian_prod(torch.arange(4), torch.arange(3)).tolist(),
        loss.flatten().tolist(),
        strict=True,
    ):
        p = 1 / (1 + math.exp(-logits()[sample, number]))
        target = TARGETS[sample].item()
        positive = -0.3 * (1 - p) ** gamma * math.log(p)
        negative = -0.7 * p**gamma * math.log(1 - p)
        factor = weight[target] if weight and target < 3 else 1.0
        assert value == pytest.approx(factor * (positive if target == number else negative))


@pytest.mark.parametrize('weight', [None, [0.5, 1.5, 2.0]])
@pytest.mark.parametrize('gamma', GAMMAS)
def test_softmax_loss_equals_its_formula_and_ignores_negative_targets(gamma, weight, device):
    targets = torch.tensor([0, 2, -1, 1])
    loss = mmcv.ops.softmax_focal_loss(
        logits(device=device),
        targets.to(device),
        gamma,
        0.3,
        None if weight is None else torch.tensor(weight, dtype=torch.double, device=device),
        'none',
    )
    for sample, value in enumerate(loss.tolist()):
        target = targets[sample].item()
        exponentials = logits()[sample].exp()
        p = (exponentials[target] / exponentials.sum()).item()
        factor = weight[target] if weight else 1.0
        expected = -0.3 * factor * (1 - p) ** gamma * math.log(p) if target >= 0 else 0.0
        assert value == pytest.approx(expected)


@pytest.mark.parametrize('gamma', GAMMAS)
@pytest.mark.parametrize('kind', ['sigmoid', 'softmax'])
@pytest.mark.parametrize('reduction', ['mean', 'sum'])
def test_gradients_equal_finite_differences(reduction, kind, gamma):
    operator = getattr(mmcv.ops, f'{kind}_focal_loss')
    targets = TARGETS if kind == 'sigmoid' else torch.tensor([0, 2, -1, 1])
    weight = torch.tensor([0.5, 1.5, 2.0], dtype=torch.double)
    assert torch.autograd.gradcheck(
        lambda values: operator(values, targets, gamma, 0.3, weight, reduction),
        logits().requires_grad_(),
    )


def test_loss_and_gradient_equal_those_of_mmdet_in_plain_pytorch():
    results = []
    one_hot = torch.nn.functional.one_hot(TARGETS, 4)[:, :3]
    for loss in (
        lambda values: mmcv.ops.SigmoidFocalLoss(2.0, 0.25, reduction='none')(values, TARGETS),
        # Given probabilities of all classes, mmdet never calls the operator.
        lambda values: FocalLoss(gamma=2.0, alpha=0.25, reduction='none')(values, one_hot),
    ):
        values = logits(torch.float).requires_grad_()
        value = loss(values)
        value.sum().backward()
        results.append((value, values.grad))
    torch.testing.assert_close(*results)


@pytest.mark.parametrize('gamma', GAMMAS)
@pytest.mark.parametrize('kind', ['sigmoid', 'softmax'])
def test_extreme_logits_have_finite_losses_and_gradients(kind, gamma, device):
    values = torch.tensor([[1e3, -1e3], [-1e3, 1e3]], device=device, requires_grad=True)
    operator = getattr(mmcv.ops, f'{kind}_focal_loss')
    loss = operator(values, torch.zeros(2, dtype=torch.long, device=device), gamma, 0.25)
    loss.backward()
    assert loss.isfinite()
    assert values.grad.isfinite().all()


@pytest.mark.parametrize('dtype', [torch.half, torch.bfloat16])
@pytest.mark.parametrize('kind', ['sigmoid', 'softmax'])
def test_half_precision_is_close_to_float32(kind, dtype, device):
    operator = getattr(mmcv.ops, f'{kind}_focal_loss')
    results = []
    for precision in (dtype, torch.float):
        values = logits(dtype, device).to(precision).requires_grad_()
        loss = operator(values, TARGETS.clamp(max=2).to(device), 2.0, 0.25)
        loss.backward()
        results.append((loss.float(), values.grad.float()))
    torch.testing.assert_close(*results, rtol=5e-2, atol=1e-3)


@pytest.mark.parametrize('kind', ['sigmoid', 'softmax'])
def test_no_samples_have_no_loss(kind, device):
    values = torch.zeros(0, 3, device=device, requires_grad=True)
    targets = torch.zeros(0, dtype=torch.long, device=device)
    loss = getattr(mmcv.ops, f'{kind}_focal_loss')(values, targets, 2.0, 0.25, None, 'sum')
    loss.backward()
    assert loss.item() == 0
    assert values.grad.shape == (0, 3)
