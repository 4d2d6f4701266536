"""PortableAmpOptimWrapper: mmengine's mixed precision, and float32 without an accelerator."""

import functools
import io

import pytest
import torch
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn

from revcol_backbone.engine import amp
from revcol_backbone.engine.amp import PortableAmpOptimWrapper

MMENGINE_AMP = 'mmengine.optim.optimizer.amp_optimizer_wrapper'
LOSS_SCALE = 1024.0


@pytest.fixture
def cpu_machine(monkeypatch):
    for kind in ('cuda', 'npu', 'mlu', 'musa'):
        monkeypatch.setattr(amp, f'is_{kind}_available', lambda: False)


@pytest.fixture
def accelerator(monkeypatch):
    """An accelerator's answers and a working scaler; the tensors stay on the CPU."""
    for module in (amp.__name__, MMENGINE_AMP):
        monkeypatch.setattr(f'{module}.is_cuda_available', lambda: True)
    monkeypatch.setattr(
        f'{MMENGINE_AMP}.GradScaler', functools.partial(torch.amp.GradScaler, 'cpu')
    )


def make_wrapper(wrapper_class=PortableAmpOptimWrapper, **kwargs):
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    return model, wrapper_class(optimizer=optimizer, **kwargs)


def train(model, wrapper, steps=3):
    for step in range(steps):
        images = torch.full((2, 4), 0.1 * (step + 1))
        with wrapper.optim_context(model):
            output = model(images)
        wrapper.update_params(output.float().square().mean())
    return output


def through_a_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_it_is_registered_for_every_openmmlab_project():
    assert OPTIM_WRAPPERS.get('PortableAmpOptimWrapper') is PortableAmpOptimWrapper
    assert issubclass(PortableAmpOptimWrapper, AmpOptimWrapper)


@pytest.mark.usefixtures('cpu_machine')
class TestWithoutAnAccelerator:
    def test_it_trains_exactly_like_float32_training(self):
        model, wrapper = make_wrapper(clip_grad=dict(max_norm=0.1), accumulative_counts=2)
        plain_model, plain = make_wrapper(
            OptimWrapper, clip_grad=dict(max_norm=0.1), accumulative_counts=2
        )
        assert train(model, wrapper, 4).dtype == torch.float32
        train(plain_model, plain, 4)
        assert torch.equal(model.weight, plain_model.weight)

    def test_it_says_so_once_in_the_log(self, log):
        train(*make_wrapper())
        assert log.text.count('training runs in float32') == 1
        assert 'WARNING' in log.text

    @pytest.mark.parametrize('loss_scale', ['dynamic', 512.0, dict(init_scale=512.0)])
    @pytest.mark.parametrize('dtype', [None, 'float16', torch.bfloat16])
    def test_it_takes_the_arguments_of_mixed_precision(self, loss_scale, dtype):
        model, wrapper = make_wrapper(loss_scale=loss_scale, dtype=dtype, use_fsdp=False)
        assert train(model, wrapper).dtype == torch.float32

    @pytest.mark.parametrize(
        ('arguments', 'error', 'words'),
        [
            (dict(loss_scale='static'), TypeError, 'dynamic'),
            (dict(loss_scale=dict(start=1.0)), TypeError, 'start'),
            (dict(dtype='int8'), AssertionError, 'bfloat16'),
            (dict(dtype=8), AssertionError, 'bfloat16'),
        ],
    )
    def test_it_refuses_what_mixed_precision_refuses(self, arguments, error, words):
        with pytest.raises(error, match=words):
            make_wrapper(**arguments)


@pytest.mark.usefixtures('accelerator')
class TestWithAnAccelerator:
    def test_it_is_mixed_precision_with_a_dynamic_loss_scale(self):
        model, wrapper = make_wrapper()
        reference_model, reference = make_wrapper(AmpOptimWrapper)
        assert wrapper.loss_scaler.is_enabled()
        assert train(model, wrapper).dtype == train(reference_model, reference).dtype
        assert torch.equal(model.weight, reference_model.weight)
        assert wrapper.state_dict()['loss_scaler'] == reference.state_dict()['loss_scaler']

    def test_it_autocasts(self):
        model, wrapper = make_wrapper(dtype='bfloat16')
        assert train(model, wrapper).dtype == torch.bfloat16

    def test_a_checkpoint_goes_to_a_cpu_and_back_with_its_loss_scale(self, monkeypatch):
        model, wrapper = make_wrapper(loss_scale=dict(init_scale=LOSS_SCALE))
        train(model, wrapper)
        state = through_a_file(wrapper.state_dict())

        with monkeypatch.context() as patch:
            patch.setattr(amp, 'is_cuda_available', lambda: False)
            cpu_model, cpu_wrapper = make_wrapper()
        cpu_wrapper.load_state_dict(state)
        train(cpu_model, cpu_wrapper)
        cpu_state = through_a_file(cpu_wrapper.state_dict())

        _, resumed = make_wrapper()
        resumed.load_state_dict(cpu_state)
        assert resumed.loss_scaler.get_scale() == LOSS_SCALE
        assert next(iter(resumed.optimizer.state.values()))['step'] == 6

    def test_a_checkpoint_made_on_a_cpu_loads(self, monkeypatch):
        with monkeypatch.context() as patch:
            patch.setattr(amp, 'is_cuda_available', lambda: False)
            model, wrapper = make_wrapper()
        train(model, wrapper)
        state = through_a_file(wrapper.state_dict())
        _, resumed = make_wrapper()
        resumed.load_state_dict(state)
        assert next(iter(resumed.optimizer.state.values()))['step'] == 3
