"""Published FLOPs of RedNet-50 against those counted with a 3x3 and with a 7x7 stem involution.

    python tools/benchmarks/involution_stems.py

The published counts include normalization and activations, ours do not. What they leave over should
therefore be alike for models that differ in nothing but the neck.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from revcol_backbone.analysis.flops import build_on_meta, model_multiply_adds
from revcol_backbone.engine.building import read_model_config
from revcol_backbone.model_zoo import IndexedModel, parse_figure, read_model_index

ROOT = Path(__file__).resolve().parents[2]
KERNEL_SIZES = (3, 7)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table as Markdown; returns the exit status."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args(arguments)
    # What the libraries say about themselves would tear the table apart.
    warnings.filterwarnings('ignore', category=UserWarning)
    print('| config | published | 3x3 stem | published more by | 7x7 stem | published more by |')
    print('|---|---|---|---|---|---|')
    for model in read_model_index(ROOT / 'model-index.yml'):
        if model.name.startswith('rednet') and model.config and model.flops:
            print(format_row(model))
    return 0


def format_row(model: IndexedModel) -> str:
    """One config's published and counted multiply-adds, in billions."""
    published = parse_figure(model.flops)[0] / 1e9
    cells = [model.name, f'{published:.1f}']
    for kernel_size in KERNEL_SIZES:
        config = read_model_config(ROOT / model.config)
        config.model.backbone.stem_kernel_size = kernel_size
        counted = model_multiply_adds(build_on_meta(config), *model.flops_shape) / 1e9
        cells += [f'{counted:.1f}', f'{published - counted:+.1f}']
    return f'| {" | ".join(cells)} |'


if __name__ == '__main__':
    sys.exit(main())
