"""What small alphas do to a memory-saving training step: its gradient's error, and its cost.

    python tools/benchmarks/small_alphas.py error --columns 8
    python tools/benchmarks/small_alphas.py cost

`error` compares the default of save_memory=True with plain training, both against float64, over
alphas and precisions. `cost` measures which share of a step it takes to read the alphas and to
decide what is kept, in CPU seconds of one thread. Both use the widths of RevCol-T.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

from revcol_backbone import VARIANTS, RevCol
from revcol_backbone.analysis.fixtures import randomize_like_trained
from revcol_backbone.analysis.gradient_error import gradient_errors
from revcol_backbone.checkpoints.writing import write_atomically
from revcol_backbone.cli import report_errors
from revcol_backbone.memory_saving.anchors import AlphaReading, choose_kept
from revcol_backbone.memory_saving.reversible import DEFAULT_ANCHOR_EVERY

# Name in the table, dtype, under autocast.
PRECISIONS = {
    'float32': (torch.float32, False),
    'bfloat16': (torch.bfloat16, False),
    'float16': (torch.float16, False),
    'autocast': (torch.bfloat16, True),
}
# The last one counts as 0.001, the bound; at the bound itself float32 and float64 disagree about
# which gradients are stopped.
ALPHAS = (0.5, 0.3, 0.2, 0.1, 0.05, 0.03, 0.01, 0.003, 0.0005)
SHARE, SMALL = 0.01, 0.01  # of a mixture


@dataclass
class Row:
    """Relative errors of the whole gradient."""

    columns: int
    alphas: str
    precision: str
    plain: float
    saving: float

    @property
    def ratio(self) -> float:
        """Error of the memory-saving step in those of plain training."""
        return self.saving / self.plain


@report_errors
def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print; ``None`` means the command line of this process."""
    arguments = parse_arguments(argv)
    torch.manual_seed(arguments.seed)
    if arguments.part == 'error':
        content = [asdict(row) for row in measure_errors(arguments)]
    else:
        content = measure_cost(arguments)
    if arguments.out:
        text = json.dumps(content, indent=2) + '\n'
        write_atomically(arguments.out, lambda path: path.write_text(text))


def measure_errors(arguments: argparse.Namespace) -> list[Row]:
    """Measure every precision at every choice of alphas; a line of the table each."""
    rows = []
    print(f'| columns | alpha | {" | ".join(arguments.precisions)} |')
    print(f'|--:|---|{"--:|" * len(arguments.precisions)}')
    for columns in arguments.columns:
        model = make_model(columns, arguments)
        image = torch.randn(1, 3, arguments.side, arguments.side)
        choices = {f'{alpha:g}': constant(alpha) for alpha in arguments.alphas}
        choices |= {'as trained': keep, f'{SHARE:.0%} at {SMALL:g}': mix}
        trained = {name: alpha.detach().clone() for name, alpha in alphas_of(model).items()}
        for title, choose in choices.items():
            for name, alpha in alphas_of(model).items():
                alpha.data = choose(trained[name])
            cells = []
            for precision in arguments.precisions:
                errors = gradient_errors(model, image, *PRECISIONS[precision])
                rows.append(Row(columns, title, precision, *errors))
                cells.append(f'{rows[-1].saving:.1e} ({rows[-1].ratio:.2g})')
            print(f'| {columns} | {title} | {" | ".join(cells)} |', flush=True)
    for precision in arguments.precisions:
        chosen = [row for row in rows if row.precision == precision]
        largest, worst = max(row.saving for row in chosen), max(row.ratio for row in chosen)
        print(f'{precision}: largest error {largest:.1e}, largest ratio {worst:.2g}')
    return rows


def make_model(columns: int, arguments: argparse.Namespace) -> RevCol:
    arch = {'channels': arguments.channels, 'layers': arguments.layers, 'columns': columns}
    return randomize_like_trained(RevCol(arch))


def alphas_of(model: RevCol) -> dict[str, nn.Parameter]:
    return {name: value for name, value in model.named_parameters() if '.alpha' in name}


def constant(value: float) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda alpha: torch.full_like(alpha, value)


def keep(alpha: torch.Tensor) -> torch.Tensor:
    return alpha


def mix(alpha: torch.Tensor) -> torch.Tensor:
    return alpha.where(torch.rand_like(alpha) >= SHARE, SMALL)


def measure_cost(arguments: argparse.Namespace) -> list[dict[str, float]]:
    """Time the decision and whole steps in CPU seconds, in turns."""
    torch.set_num_threads(1)
    results = []
    print('| columns | alpha | step, s | decision, ms | share |')
    print('|--:|---|--:|--:|--:|')
    for columns in arguments.columns:
        model = make_model(columns, arguments)
        model.save_memory = True
        image = torch.randn(1, 3, arguments.side, arguments.side)
        for alpha in (None, 0.1):
            if alpha is not None:
                for parameter in alphas_of(model).values():
                    nn.init.constant_(parameter, alpha)
            steps, decisions = [], []
            for _ in range(arguments.rounds):
                steps.append(cpu_seconds(train_step, model, image))
                decisions.append(cpu_seconds(decide, model))
            step, decision = (sorted(values)[len(values) // 2] for values in (steps, decisions))
            title = 'as trained' if alpha is None else f'{alpha:g}'
            results.append({'columns': columns, 'alpha': title, 'step': step, 'decision': decision})
            print(
                f'| {columns} | {title} | {step:.2f} | {decision * 1e3:.2f} '
                f'| {decision / step:.2%} |',
                flush=True,
            )
    return results


def cpu_seconds(run: Callable[..., object], *arguments: object) -> float:
    start = time.process_time()
    run(*arguments)
    return time.process_time() - start


def train_step(model: RevCol, image: torch.Tensor) -> None:
    model.zero_grad(set_to_none=True)
    sum(output.square().mean() for output in model(image)).backward()


def decide(model: RevCol) -> None:
    """What a step does to choose what it keeps."""
    alphas = [getattr(model, f'subnet{index}').alphas for index in range(model.columns)]
    shapes = [[alpha.shape for alpha in column] for column in alphas]
    choose_kept(AlphaReading(alphas).get(), shapes, DEFAULT_ANCHOR_EVERY)


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; ``None`` means that of this process."""
    tiny = VARIANTS['tiny']
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('part', choices=('error', 'cost'))
    parser.add_argument('--columns', type=int, nargs='+', default=[4, 8])
    parser.add_argument('--side', type=int, default=224, help='of the square image, in pixels')
    parser.add_argument('--alphas', type=float, nargs='*', default=ALPHAS, help='of error')
    parser.add_argument('--precisions', nargs='+', choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument('--channels', type=int, nargs=4, default=tiny.channels)
    parser.add_argument('--layers', type=int, nargs=4, default=tiny.layers)
    parser.add_argument('--rounds', type=int, default=9, help='turns of cost')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--out', type=Path, help='also write the figures to this JSON file')
    return parser.parse_args(argv)


if __name__ == '__main__':
    sys.exit(main())
