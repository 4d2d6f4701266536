"""The memory-saving backward pass: plain training's gradients, from memory that stays flat."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

from revcol_backbone import RevCol
from revcol_backbone.analysis.memory import LiveBytes
from revcol_backbone.memory_saving.reversible import DEFAULT_ANCHOR_EVERY
from tests.device import DEVICE
from tests.golden import fill, image

pytestmark = pytest.mark.on_device

SMALL = {'channels': (4, 8, 12, 16), 'layers': (1, 1, 2, 1), 'columns': 5, 'long_up': True}
TINY_WIDTHS = {'channels': (64, 128, 256, 512), 'layers': (2, 2, 4, 2)}
MEBIBYTE = 2**20


def build(save_memory: bool, anchor_every: int = DEFAULT_ANCHOR_EVERY, **changes) -> RevCol:
    arguments = {'arch': SMALL, **changes}
    return fill(RevCol(save_memory=save_memory, anchor_every=anchor_every, **arguments))


def loss(outputs: tuple[Tensor, ...]) -> Tensor:
    return sum((o * image(o.shape, f'probe{i}').to(o)).sum() for i, o in enumerate(outputs))


def gradients(model: nn.Module, x: Tensor) -> Tensor:
    """The gradient of all parameters after one step, as one vector."""
    model.zero_grad()
    loss(model(x)).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def error(found: Tensor, expected: Tensor) -> float:
    return ((found.double() - expected.double()).norm() / expected.double().norm()).item()


@pytest.mark.parametrize(
    ('anchor_every', 'tolerance'), [(1, 1e-9), (2, 1e-9), (4, 1e-9), (8, 1e-9), (0, 1e-6)]
)
def test_twelve_columns_in_float64_equal_plain_autograd(
    anchor_every: int, tolerance: float
) -> None:
    arch, x = {**SMALL, 'columns': 12}, image((2, 3, 64, 72)).double()
    plain = gradients(build(False, arch=arch).double(), x)
    saving = gradients(build(True, anchor_every, arch=arch).double(), x)
    assert error(saving, plain) < tolerance


def test_the_default_at_sixteen_columns_in_float32_is_exact_to_four_digits() -> None:
    arch, x = {**SMALL, 'columns': 16}, image((2, 3, 64, 64))
    assert error(gradients(build(True, arch=arch), x), gradients(build(False, arch=arch), x)) < 1e-4


@pytest.mark.parametrize('anchor_every', [0, 1, 2])
def test_outputs_are_bitwise_those_of_the_plain_forward_pass(anchor_every: int) -> None:
    x = image((1, 3, 45, 63))
    torch.testing.assert_close(build(True, anchor_every)(x), build(False)(x), rtol=0, atol=0)


@pytest.mark.parametrize('anchor_every', [0, 1, 2])
def test_drop_path_with_a_seed_drops_what_plain_training_drops(anchor_every: int) -> None:
    found = {}
    for save_memory in (False, True):
        model = build(save_memory, anchor_every, drop_path_rate=0.6).double().train()
        torch.manual_seed(3)
        found[save_memory] = gradients(model, image((4, 3, 48, 48)).double())
        found['state', save_memory] = torch.get_rng_state()
    assert error(found[True], found[False]) < 1e-8
    assert torch.equal(found['state', True], found['state', False])
    evaluated = gradients(build(False).double(), image((4, 3, 48, 48)).double())
    assert error(found[True], evaluated) > 1e-2


def test_autocast_is_recomputed_as_it_was_though_the_backward_pass_is_outside() -> None:
    found = {}
    for save_memory in (False, True):
        model = build(save_memory, 1)
        with torch.autocast(DEVICE.type, dtype=torch.bfloat16):
            outputs = model(image((2, 3, 64, 64)))
        loss(outputs).backward()
        columns = [p for key, p in model.named_parameters() if key.startswith('subnet')]
        found[save_memory] = torch.cat([p.grad.flatten() for p in columns])
        # The stem's output is bfloat16 on a CPU, so the order in which columns add to it counts.
        found['stem', save_memory] = model.stem[0].weight.grad
    assert error(found[True], found[False]) < 1e-6
    assert error(found['stem', True], found['stem', False]) < 1e-2


def test_weights_that_plain_training_uses_in_the_same_autocast_keep_their_gradients() -> None:
    model = build(True)
    with torch.autocast(DEVICE.type, dtype=torch.bfloat16):
        model(image((1, 3, 32, 32)))
        model.save_memory = False
        outputs = model(image((1, 3, 32, 32)))
    loss(outputs).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize('frozen_columns', [0, 2, 4])
@pytest.mark.parametrize('anchor_every', [0, 1, 3])
def test_frozen_columns_leave_the_other_gradients_as_they_are(
    frozen_columns: int, anchor_every: int
) -> None:
    x = image((1, 3, 64, 64)).double()
    found = []
    for save_memory in (True, False):
        model = build(save_memory, anchor_every, frozen_columns=frozen_columns).double()
        gradients(model, x)
        grads = {key: parameter.grad for key, parameter in model.named_parameters()}
        found.append({key: gradient for key, gradient in grads.items() if gradient is not None})
    assert found[0].keys() == found[1].keys()
    for key, gradient in found[0].items():
        torch.testing.assert_close(gradient, found[1][key], rtol=1e-6, atol=1e-8)


def test_parameters_frozen_by_hand_and_unused_levels_get_none() -> None:
    found = []
    for save_memory in (True, False):
        model = build(save_memory, 2, out_indices=(1,)).double()
        model.subnet1.level0.requires_grad_(False)
        model.subnet3.alpha1.requires_grad_(False)
        gradients(model, image((1, 3, 64, 64)).double())
        found.append({key: parameter.grad for key, parameter in model.named_parameters()})
    for key, plain in found[1].items():
        assert (plain is None) == (found[0][key] is None), key
        if plain is not None:
            torch.testing.assert_close(found[0][key], plain, rtol=1e-6, atol=1e-8)


def test_gradients_accumulate_over_backward_passes() -> None:
    model, x = build(True), image((2, 3, 48, 48))
    for part in (x, *x.split(1)):
        sum(output.sum() for output in model(part)).backward()
        if part is x:
            together = torch.cat([p.grad.flatten() for p in model.parameters()])
            model.zero_grad()
    accumulated = torch.cat([p.grad.flatten() for p in model.parameters()])
    assert error(accumulated, together) < 1e-4


def test_a_hook_on_a_parameter_sees_and_changes_its_gradient_once() -> None:
    model, x = build(True), image((1, 3, 48, 48))
    weight = model.subnet2.level1.blocks[0].pwconv1.weight
    gradients(model, x)
    before, seen = weight.grad.clone(), []
    weight.register_hook(lambda gradient: seen.append(gradient) or 2 * gradient)
    gradients(model, x)
    torch.testing.assert_close(weight.grad, 2 * before)
    assert len(seen) == 1


def test_autograd_grad_returns_gradients_and_accumulates_none() -> None:
    model, x = build(True), image((1, 3, 48, 48))
    found = torch.autograd.grad(loss(model(x)), list(model.parameters()))
    assert all(parameter.grad is None for parameter in model.parameters())
    whole = torch.cat([gradient.flatten() for gradient in found])
    assert error(whole, gradients(model, x)) < 1e-6


def test_the_backward_pass_can_run_again_on_a_retained_graph() -> None:
    model = build(True, 2)
    total = loss(model(image((1, 3, 32, 32))))
    parameters = list(model.parameters())
    first = torch.autograd.grad(total, parameters, retain_graph=True)
    torch.testing.assert_close(torch.autograd.grad(total, parameters), first, rtol=0, atol=0)


def test_weights_changed_before_the_backward_pass_are_an_error() -> None:
    model = build(True)
    total = loss(model(image((1, 3, 32, 32))))
    with torch.no_grad():
        model.subnet1.alpha0.mul_(2)
    with pytest.raises(RuntimeError, match='modified by an inplace operation'):
        total.backward()


def test_gradients_of_gradients_are_refused() -> None:
    model = build(True)
    x = image((1, 3, 32, 32)).requires_grad_()
    with pytest.raises(
        RuntimeError, match='first-order gradients only; build the network with save_memory'
    ):
        torch.autograd.grad(loss(model(x)), x, create_graph=True)


def test_non_finite_activations_are_not_hidden() -> None:
    model = build(True, 0)
    x = image((1, 3, 32, 32))
    x[0, 0, 5, 5] = float('inf')
    assert not gradients(model, x).isfinite().all()


def test_no_graph_is_made_when_no_gradient_is_wanted() -> None:
    model = build(True)
    with torch.no_grad():
        assert not any(output.requires_grad for output in model(image((1, 3, 32, 32))))
    model.requires_grad_(False)
    assert not any(output.requires_grad for output in model(image((1, 3, 32, 32))))


def test_copies_pickles_and_state_dicts_are_those_of_the_plain_model() -> None:
    model, x = build(True), image((1, 3, 32, 32))
    expected = gradients(model, x)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        torch.testing.assert_close(gradients(other, x), expected, rtol=0, atol=0)
    assert model.state_dict().keys() == build(False).state_dict().keys()


@pytest.fixture
def one_thread():
    """Each thread has a chunk of the hidden layer, which is not smaller for a smaller image."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def peak_beyond_gradients(columns: int, arch: dict = TINY_WIDTHS, **memory) -> float:
    """Peak of one training step in MiB, as the paper counts it: parameter gradients apart."""
    model = fill(RevCol({**arch, 'columns': columns}, **memory))
    with LiveBytes() as live:
        sum(output.mean() for output in model(image((1, 3, 224, 336)))).backward()
    return (live.peak - sum(p.grad.nbytes for p in model.parameters())) / MEBIBYTE


@pytest.mark.usefixtures('one_thread')
def test_memory_stays_flat_as_columns_are_added() -> None:
    """A quarter of the pixels of the published measurement, so a quarter of its bounds."""
    few, many = (peak_beyond_gradients(n, save_memory=True, anchor_every=0) for n in (4, 8))
    assert (many - few) / 4 < 1 / 4
    assert many < 110 / 4
    assert peak_beyond_gradients(8, save_memory=True) < 125 / 4


@pytest.mark.usefixtures('one_thread')
def test_plain_training_needs_several_times_the_memory() -> None:
    # Narrow, so that the subtracted gradients are small beside the maps.
    narrow = {**TINY_WIDTHS, 'channels': (16, 32, 64, 128)}
    saving = peak_beyond_gradients(12, narrow, save_memory=True)
    assert peak_beyond_gradients(12, narrow) > 3 * saving
