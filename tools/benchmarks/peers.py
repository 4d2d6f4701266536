"""RevCol's training step and inference beside the published formulation and timm's ConvNeXt.

    python tools/benchmarks/peers.py
    python tools/benchmarks/peers.py --threads 1 --clock cpu
    python tools/benchmarks/peers.py --device cuda --train-shape 1 800 1344

Everything runs in turns within one process; a ratio is the median of the ratios of each turn. The
published formulation runs module by module, its channels-first LayerNorm by mean and variance.
ConvNeXt gives its four levels (`features_only`), with and without its own checkpointing. `products
alone` runs the matrix products of RevCol's linear layers and nothing else, from weights packed by
oneDNN where it can. The native forms are for CPUs, and need a C++ compiler.
Memory is the peak of live tensors in one step; `beyond` has the parameters' gradients subtracted.
Native training steps are compared with a native plain step.
"""

from __future__ import annotations

import argparse
import sys
import time
import types
from collections.abc import Callable, Sequence

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from revcol_backbone import VARIANTS, RevCol, train_natively
from revcol_backbone.analysis.fixtures import randomize_like_trained
from revcol_backbone.analysis.memory import LiveBytes
from revcol_backbone.analysis.timing import paired_ratios, summarize, time_in_turns
from revcol_backbone.cli import positive_int, report_errors
from revcol_backbone.level import Block, ChannelsFirstLayerNorm
from revcol_backbone.onednn import fusable_dtype

MEBIBYTE = 2**20
PEERS = {'tiny': 'convnext_tiny', 'small': 'convnext_small', 'base': 'convnext_base'}
PARTS = ['train', 'infer']
NATIVE = ', native'
OURS = ['plain', 'save_memory, default', 'save_memory, anchor_every=0']
CLOCKS = {'wall': time.perf_counter, 'cpu': time.process_time}


@report_errors
def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print; ``None`` means the command line of this process."""
    args = parse_arguments(argv)
    torch.manual_seed(0)
    if args.threads:
        torch.set_num_threads(args.threads)
    print(f'{args.arch}, {args.device}, {torch.get_num_threads()} threads, clock: {args.clock}\n')
    if 'train' in args.parts:
        compare_training(args)
    if 'infer' in args.parts:
        compare_inference(args)


def compare_training(args: argparse.Namespace) -> None:
    """Print time and memory of a training step of every form."""
    image = torch.randn(args.train_shape[0], 3, *args.train_shape[1:], device=args.device)
    forms = {
        'published formulation': publish(make_revcol(args)),
        'plain': make_revcol(args),
        'save_memory, default': make_revcol(args, save_memory=True),
        'save_memory, anchor_every=0': make_revcol(args, save_memory=True, anchor_every=0),
        'ConvNeXt': make_convnext(args),
        'ConvNeXt, checkpointed': make_convnext(args, checkpointed=True),
    }
    if torch.device(args.device).type == 'cpu':
        forms |= {f'{name}{NATIVE}': forms[name] for name in OURS}
    memory = {
        name: measure_memory(model.train(), image, name.endswith(NATIVE))
        for name, model in forms.items()
    }
    seconds = take_turns(
        {
            name: lambda model=model, name=name: train_step(model, image, name.endswith(NATIVE))
            for name, model in forms.items()
        },
        args,
    )
    print(f'Training step, {tuple(image.shape)}:\n')
    print('| form | peak MiB | beyond MiB | s | time / plain | published / time |')
    print('|---|--:|--:|--:|--:|--:|')
    for name, own in seconds.items():
        peak, beyond = memory[name]
        plain = seconds[f'plain{NATIVE}' if name.endswith(NATIVE) else 'plain']
        against_plain = summarize(paired_ratios(own, plain)).median
        against_published = summarize(paired_ratios(seconds['published formulation'], own)).median
        print(
            f'| {name} | {peak:.1f} | {beyond:.1f} | {summarize(own).median:.3f} '
            f'| {against_plain:.2f} | {against_published:.2f} |'
        )
    print()


def compare_inference(args: argparse.Namespace) -> None:
    """Print the time of one forward pass of every form."""
    image = torch.randn(args.infer_shape[0], 3, *args.infer_shape[1:], device=args.device)
    deployed = make_revcol(args).eval()
    deployed.switch_to_deploy()
    forms = {
        'published formulation': publish(make_revcol(args)).eval(),
        'plain': make_revcol(args).eval(),
        'deployed': deployed,
    }
    if torch.device(args.device).type == 'cpu':
        native = make_revcol(args).eval()
        native.switch_to_deploy(native=True)
        forms['deployed, native'] = native
    forms |= {
        'products alone': linear_products(make_revcol(args).eval(), image),
        'ConvNeXt': make_convnext(args).eval(),
    }
    with torch.no_grad():
        seconds = take_turns(
            {name: lambda model=model: model(image) for name, model in forms.items()}, args
        )
    print(f'Inference, {tuple(image.shape)}:\n')
    print('| form | s | ConvNeXt / form |\n|---|--:|--:|')
    for name, own in seconds.items():
        ratio = summarize(paired_ratios(seconds['ConvNeXt'], own)).median
        print(f'| {name} | {summarize(own).median:.3f} | {ratio:.2f} |')
    print()


def linear_products(model: nn.Module, image: Tensor) -> Callable[[Tensor], None]:
    """The matrix products of all linear layers of a forward pass, on matrices of ones."""
    sizes: list[tuple[int, int, int]] = []

    def note(layer: nn.Linear, inputs: tuple[Tensor, ...], _: Tensor) -> None:
        sizes.append((inputs[0].numel() // layer.in_features, *reversed(layer.weight.shape)))

    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            layer.register_forward_hook(note)
    with torch.no_grad():
        model(image)
    products = {size: _product(image, *size) for size in set(sizes)}

    def multiply(_: Tensor) -> None:
        for size in sizes:
            products[size]()

    return multiply


def _product(like: Tensor, rows: int, inner: int, columns: int) -> Callable[[], Tensor]:
    """One product of matrices of ones, in the faster form PyTorch has."""
    left, right = like.new_ones(rows, inner), like.new_ones(columns, inner)
    if fusable_dtype(left) is None:
        return lambda: torch.mm(left, right.t())
    packed = torch.ops.mkldnn._reorder_linear_weight(right)
    return lambda: torch.ops.mkldnn._linear_pointwise(left, packed, None, 'none', [], '')


def take_turns(
    runs: dict[str, Callable[[], object]], args: argparse.Namespace
) -> dict[str, list[float]]:
    """The seconds of each run in every round."""
    device, clock = torch.device(args.device), CLOCKS[args.clock]
    measured = time_in_turns(list(runs.values()), args.rounds, 1, device, clock)
    return dict(zip(runs, measured, strict=True))


def train_step(model: nn.Module, image: Tensor, natively: bool = False) -> None:
    """Forward and backward pass over all levels, without an optimizer."""
    train_natively(natively)
    model.zero_grad(set_to_none=True)
    sum(level.mean() for level in model(image)).backward()
    train_natively(False)


def measure_memory(model: nn.Module, image: Tensor, natively: bool) -> tuple[float, float]:
    """The peak of a training step in MiB, with and without the parameters' gradients."""
    model.zero_grad(set_to_none=True)
    with LiveBytes() as live:
        train_step(model, image, natively)
    gradients = sum(p.grad.nbytes for p in model.parameters() if p.grad is not None)
    model.zero_grad(set_to_none=True)
    return live.peak / MEBIBYTE, (live.peak - gradients) / MEBIBYTE


def make_revcol(args: argparse.Namespace, **memory: object) -> RevCol:
    """A RevCol with weights as after training."""
    return randomize_like_trained(RevCol(args.arch, **memory)).to(args.device)


def make_convnext(args: argparse.Namespace, checkpointed: bool = False) -> nn.Module:
    """The ConvNeXt of the same size, as a backbone."""
    model = timm.create_model(PEERS[args.arch], features_only=True)
    for stage in (module for module in model.modules() if hasattr(module, 'grad_checkpointing')):
        stage.grad_checkpointing = checkpointed
    return model.to(args.device)


def publish(model: RevCol) -> RevCol:
    """Let a network run module by module, as the published formulation does."""
    for module in model.modules():
        if isinstance(module, Block):
            module.forward = types.MethodType(_published_block, module)
        elif isinstance(module, ChannelsFirstLayerNorm):
            module.forward = types.MethodType(_published_norm, module)
    return model


def _published_block(self: Block, x: Tensor, keep: Tensor | None = None) -> Tensor:
    branch = self.norm(self.dwconv(x).permute(0, 2, 3, 1))
    branch = self.gamma * self.pwconv2(F.gelu(self.pwconv1(branch)))
    return x + branch.permute(0, 3, 1, 2)


def _published_norm(self: ChannelsFirstLayerNorm, x: Tensor) -> Tensor:
    centered = x - x.mean(1, keepdim=True)
    x = centered / torch.sqrt(centered.pow(2).mean(1, keepdim=True) + self.eps)
    return self.weight[:, None, None] * x + self.bias[:, None, None]


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--arch', choices=[name for name in VARIANTS if name in PEERS])
    parser.add_argument(
        '--parts', nargs='+', choices=('train', 'infer'), default=['train', 'infer']
    )
    parser.add_argument('--train-shape', type=positive_int, nargs=3, metavar=('B', 'H', 'W'))
    parser.add_argument('--infer-shape', type=positive_int, nargs=3, metavar=('B', 'H', 'W'))
    parser.add_argument('--rounds', type=positive_int, default=5, help='timed turns (default 5)')
    parser.add_argument('--threads', type=positive_int, help="PyTorch's threads (default: its own)")
    parser.add_argument(
        '--clock', choices=CLOCKS, default='wall', help='cpu counts the seconds of all threads'
    )
    parser.add_argument('--device', default='cpu', help='device (default cpu)')
    parser.set_defaults(arch='tiny', train_shape=[1, 448, 672], infer_shape=[2, 320, 480])
    return parser.parse_args(argv)


if __name__ == '__main__':
    sys.exit(main())
