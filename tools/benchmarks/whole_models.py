"""Where the time and the memory of a whole detector or segmentor go, in training and in testing.

    python tools/benchmarks/whole_models.py det_configs/revcol_t_cascade.py
    python tools/benchmarks/whole_models.py seg_configs/revcol_t_upernet.py --shape 512 2048
    python tools/benchmarks/whole_models.py CONFIG --checkpoint-parts decode_head.fpn_bottleneck
    python tools/benchmarks/whole_models.py CONFIG --cfg-options model.backbone.save_memory=True

Images of noise with a few objects, random weights. The parts of a training step are cut apart:
each gets detached features, is differentiated by itself, and gives its gradients to the part below.
`kept` is what lives after a part's forward pass until its backward pass, its outputs included, and
`peak` is the most that lives while it is differentiated, beyond what was kept before. Both count
tensors exactly, in float32, and are the same on a GPU. In testing, the score threshold is 0, so
that as many objects as the config allows are found and their masks pasted.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from mmengine.runner import turn_on_activation_checkpointing
from mmengine.structures import BaseDataElement
from torch import Tensor
from whole_models_samples import describe

from revcol_backbone.analysis.memory import LiveBytes
from revcol_backbone.cli import ConfigOptions, positive_int, report_errors
from revcol_backbone.engine.building import build_model, read_model_config

MEBIBYTE = 2**20
# What a detector's and a segmentor's test consists of: attribute of the model, and the method.
TEST_PARTS = {
    'backbone': ('backbone', 'forward'),
    'neck': ('neck', 'forward'),
    'RPN': ('rpn_head', 'predict'),
    'box stages': ('roi_head', 'predict_bbox'),
    'masks': ('roi_head', 'predict_mask'),
    'decode head': ('decode_head', 'predict'),
    'result': ('', 'postprocess_result'),
}


@dataclass
class Part:
    """What one part of a model took, over all calls of it; times in seconds, memory in bytes."""

    forward: float = 0.0
    backward: float = 0.0
    kept: int = 0
    peak: int = 0


@dataclass
class Cut:
    """One call of a part: its detached input and what it gave."""

    name: str
    features: tuple[Tensor, ...]
    outputs: list[Tensor] = field(default_factory=list)


@report_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print both tables; ``None`` means the command line of this process."""
    args = parse_arguments(arguments)
    if args.threads:
        torch.set_num_threads(args.threads)
    config = read_model_config(args.config, args.cfg_options)
    torch.manual_seed(0)
    model = build_model(config, None, torch.device('cpu'))
    with DefaultScope.overwrite_default_scope(config.get('default_scope')):
        image = torch.randn(args.batch_size, 3, *args.shape)
        tested = test_parts(model, image, args.rounds)
        model.train()
        turn_on_activation_checkpointing(model, args.checkpoint_parts)
        trained = train_parts(model, image, args.rounds)
        with LiveBytes() as live:
            whole_step(model, image)
        gradients = sum(p.grad.nbytes for p in model.parameters() if p.grad is not None)
    shape = ' x '.join(map(str, (args.batch_size, *args.shape)))
    print(f'{args.config.stem}, {shape}, {torch.get_num_threads()} threads')
    print_training(trained)
    print(f'\nPeak of a step, gradients subtracted: {(live.peak - gradients) / MEBIBYTE:.0f} MiB')
    print_testing(tested)


def train_parts(model: BaseModel, image: Tensor, rounds: int) -> dict[str, Part]:
    """Run training steps part by part; times are those of the fastest of the rounds."""
    best: dict[str, Part] = {}
    for _ in range(rounds):
        model.zero_grad(set_to_none=True)
        for name, part in _train_parts_once(model, image).items():
            known = best.setdefault(name, part)
            known.forward = min(known.forward, part.forward)
            known.backward = min(known.backward, part.backward)
    return best


def _train_parts_once(model: BaseModel, image: Tensor) -> dict[str, Part]:
    parts: dict[str, Part] = {}
    cuts: list[Cut] = []
    with LiveBytes() as live:

        def run(name: str, function: Callable, features: Sequence[Tensor], *rest: object) -> object:
            """Call one part on detached features, and note how to differentiate it."""
            cut = Cut(name, tuple(f.detach().requires_grad_() for f in features))
            part, before, start = parts.setdefault(name, Part()), live.now, time.perf_counter()
            given = cut.features[0] if name == 'backbone' else cut.features
            result = function(given, *rest)
            part.forward += time.perf_counter() - start
            part.kept += live.now - before
            found = [tensor for tensor in _tensors(result) if tensor.requires_grad]
            losses = [tensor for tensor in found if tensor.numel() == 1]
            cut.outputs = losses or found
            cuts.append(cut)
            return result

        features = run('backbone', model.backbone, [image])
        if getattr(model, 'neck', None) is not None:
            features = run('neck', model.neck, features)
        _run_heads(model, features, describe(model, image), run)
        gradients: dict[int, Tensor] = {}
        for cut in reversed(cuts):
            part, held = parts[cut.name], live.now
            live.peak = held
            entering = [gradients.get(id(output)) for output in cut.outputs]
            start = time.perf_counter()
            torch.autograd.backward(cut.outputs, entering)
            part.backward += time.perf_counter() - start
            part.peak = max(part.peak, live.peak - held)
            cut.outputs.clear()
            _hand_down(cuts, cut, gradients)
    return parts


def _hand_down(cuts: Sequence[Cut], cut: Cut, gradients: dict[int, Tensor]) -> None:
    """Add the gradients of a part's input to those of the outputs that the input was cut from."""
    addresses = {output.data_ptr(): output for below in cuts for output in below.outputs}
    for feature in cut.features:
        source = addresses.get(feature.data_ptr())
        if source is not None and feature.grad is not None:
            known = gradients.get(id(source))
            gradients[id(source)] = feature.grad if known is None else known + feature.grad
        feature.grad = None


def _run_heads(
    model: BaseModel,
    features: Sequence[Tensor],
    samples: list[BaseDataElement],
    run: Callable,
) -> None:
    if hasattr(model, 'decode_head'):
        run('decode head', model.decode_head.loss, features, samples, model.train_cfg)
        if model.with_auxiliary_head:
            run('auxiliary head', model.auxiliary_head.loss, features, samples, model.train_cfg)
        return
    config = model.train_cfg.get('rpn_proposal', model.test_cfg.rpn)
    first = [sample.clone() for sample in samples]
    for sample in first:
        sample.gt_instances = sample.gt_instances.clone()
        sample.gt_instances.labels = torch.zeros_like(sample.gt_instances.labels)
    _, proposals = run('RPN', model.rpn_head.loss_and_predict, features, first, config)
    head = model.roi_head
    box_loss, mask_loss = head.bbox_loss, head.mask_loss
    with _replaced(head, 'bbox_loss', lambda stage, x, *rest: run(
        'box stages', lambda cut: box_loss(stage, cut, *rest), x
    )), _replaced(head, 'mask_loss', lambda stage, x, *rest: run(
        'masks', lambda cut: mask_loss(stage, cut, *rest), x
    )):  # fmt: skip
        head.loss(features, proposals, samples)


def test_parts(model: BaseModel, image: Tensor, rounds: int) -> dict[str, float]:
    """Seconds of each part of a test, and of the rest; the fastest of the rounds."""
    seconds: dict[str, float] = {}
    if hasattr(model, 'roi_head'):
        model.test_cfg.rcnn.score_thr = model.roi_head.test_cfg.score_thr = 0.0

    def timed(name: str, method: Callable) -> Callable:
        def call(*args: object, **kwargs: object) -> object:
            start = time.perf_counter()
            result = method(*args, **kwargs)
            found[name] = found.get(name, 0.0) + time.perf_counter() - start
            return result

        return call

    for _ in range(rounds):
        found: dict[str, float] = {}
        originals = []
        for name, (attribute, method) in TEST_PARTS.items():
            owner = getattr(model, attribute, None) if attribute else model
            if hasattr(owner, method):
                originals.append((owner, method))
                setattr(owner, method, timed(name, getattr(owner, method)))
        start = time.perf_counter()
        with torch.no_grad():
            model(image, describe(model, image), mode='predict')
        whole = time.perf_counter() - start
        for owner, method in originals:
            delattr(owner, method)
        found['rest'] = whole - sum(found.values())
        seconds = {name: min(value, seconds.get(name, value)) for name, value in found.items()}
    return seconds


def whole_step(model: BaseModel, image: Tensor) -> None:
    """One ordinary training step."""
    model.zero_grad(set_to_none=True)
    losses = model(image, describe(model, image), mode='loss')
    model.parse_losses(losses)[0].backward()


def print_training(parts: dict[str, Part]) -> None:
    """Print the table of a training step."""
    total = sum(part.forward + part.backward for part in parts.values())
    print('\n| training step | forward s | backward s | share | kept MiB | peak MiB |')
    print('|---|--:|--:|--:|--:|--:|')
    for name, part in parts.items():
        share = (part.forward + part.backward) / total
        print(
            f'| {name} | {part.forward:.2f} | {part.backward:.2f} | {share:.0%} '
            f'| {part.kept / MEBIBYTE:.0f} | {part.peak / MEBIBYTE:.0f} |'
        )


def print_testing(seconds: dict[str, float]) -> None:
    """Print the table of a test."""
    total = sum(seconds.values())
    print('\n| test | s | share |\n|---|--:|--:|')
    for name, value in seconds.items():
        print(f'| {name} | {value:.2f} | {value / total:.0%} |')


def _tensors(result: object) -> Iterator[Tensor]:
    if isinstance(result, Tensor):
        yield result
    elif isinstance(result, dict):
        for value in result.values():
            yield from _tensors(value)
    elif isinstance(result, (list, tuple)):
        for value in result:
            yield from _tensors(value)


@contextmanager
def _replaced(owner: object, name: str, value: object) -> Iterator[None]:
    setattr(owner, name, value)
    try:
        yield
    finally:
        delattr(owner, name)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; ``None`` means that of this process."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', type=Path, help='a two-stage detector, or a segmentor')
    parser.add_argument('--shape', type=positive_int, nargs=2, default=(800, 1344), metavar='N')
    parser.add_argument('--batch-size', type=positive_int, default=2, help='default: %(default)s')
    parser.add_argument('--rounds', type=positive_int, default=2, help='default: %(default)s')
    parser.add_argument('--threads', type=positive_int)
    parser.add_argument(
        '--checkpoint-parts',
        nargs='*',
        default=[],
        metavar='MODULE',
        help='recompute these in the backward pass, as activation_checkpointing in a config does',
    )
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, metavar='KEY=VALUE')
    return parser.parse_args(arguments)


if __name__ == '__main__':
    sys.exit(main())
