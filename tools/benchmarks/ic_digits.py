"""IC-ResNet-18 against ResNet-18 on the digits: classification, detection and segmentation.

    python tools/benchmarks/ic_digits.py --out work_dirs/ic_digits
    python tools/benchmarks/ic_digits.py --tasks classification --seeds 2

Both have the same seeds, data and schedule, and a fraction of the usual width. The classifier sees
scikit-learn's 8 x 8 digits, enlarged to 32 x 32: 200 to train, the others to test; it is also
trained with other forms of the unit. Detector and segmentor are those of ic_resnet18_quickstart.py
on a small set of tools/make_digits_dataset.py, with nothing but the backbone changed.

Every result is written to --out as its training ends, and such a training is not repeated; the
table and the picture show all that lies there. A standard deviation is that of the seeds.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch
from ic_digits_classification import classify
from ic_digits_downstream import train_downstream
from ic_digits_forms import DEFAULT, FORMS, PLAIN
from ic_digits_tables import METRICS, draw_curves, format_tables, last, read_runs
from mmengine.logging import MMLogger

from revcol_backbone.checkpoints.writing import write_atomically


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    MMLogger.get_current_instance().setLevel('ERROR')  # of what is initialized how
    arguments.out.mkdir(parents=True, exist_ok=True)
    for task in arguments.tasks:
        for seed in range(arguments.seeds):
            for form in arguments.forms if task == 'classification' else arguments.downstream:
                run_once(task, form, seed, arguments.out)
    runs = read_runs(arguments.out)
    table = format_tables(runs)
    print(table)
    write_atomically(arguments.out / 'tables.md', lambda path: path.write_text(table + '\n'))
    draw_curves(runs, arguments.out / 'curves.png')


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--tasks', nargs='+', choices=METRICS, default=list(METRICS))
    parser.add_argument('--seeds', type=int, default=5, help='runs of each, from seed 0 on')
    forms = dict(nargs='+', choices=FORMS, metavar='FORM')
    parser.add_argument(
        '--forms',
        default=list(FORMS),
        help='forms that the classifier is trained with; default: all',
        **forms,
    )
    parser.add_argument(
        '--downstream',
        default=[PLAIN, DEFAULT],
        help='forms that detector and segmentor are trained with',
        **forms,
    )
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--out', type=Path, default=Path('work_dirs/ic_digits'))
    return parser.parse_args()


def run_once(task: str, form: str, seed: int, out: Path) -> None:
    """Train and test once, unless the result is there."""
    name = ''.join(letter if letter.isalnum() else '_' for letter in form)
    path = out / f'{task}-{name}-{seed}.json'
    if path.exists():
        return
    if task == 'classification':
        found = classify(form, seed)
    else:
        found = train_downstream(task, form, seed, out)
    result = dict(task=task, form=form, seed=seed, **found)
    write_atomically(path, lambda partial: partial.write_text(json.dumps(result)))
    print(f'{task}, {form}, seed {seed}: {last(result):.2f}', file=sys.stderr, flush=True)


if __name__ == '__main__':
    main()
