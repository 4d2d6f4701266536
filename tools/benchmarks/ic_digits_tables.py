"""The tables and the picture of ic_digits.py, of all results that lie in a folder."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import numpy as np
from ic_digits_forms import FORMS, LOADING_FORMS, PLAIN

METRICS = {'classification': 'accuracy', 'detection': 'box AP', 'segmentation': 'mIoU'}


def read_runs(folder: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob('*-*-*.json'))]


def format_tables(runs: list[dict]) -> str:
    """The figures of each task, of loading a basic model, and the active shares by layer."""
    lines = []
    for task in METRICS:
        if forms := collect(runs, task):
            lines += [*format_task(task, forms), '']
    classifiers = collect(runs, 'classification')
    lines += format_loading([run for run in classifiers.get(PLAIN, []) if 'loaded' in run])
    return '\n'.join([*lines, *format_shares(classifiers)])


def collect(runs: list[dict], task: str) -> dict[str, list[dict]]:
    """The runs of a task by form, in the order of the forms."""
    found = {
        form: [run for run in runs if (run['task'], run['form']) == (task, form)] for form in FORMS
    }
    return {form: of_form for form, of_form in found.items() if of_form}


def format_task(task: str, forms: dict[str, list[dict]]) -> list[str]:
    plain = {run['seed']: last(run) for run in forms.get(PLAIN, [])}
    lines = [
        f'{task}: {METRICS[task]}, in percent',
        '',
        '| form | seeds | mean | deviation | less the plain one, same seed | multiply-adds |',
        '|---|---|---|---|---|---|',
    ]
    for form, of_form in forms.items():
        values = np.array([last(run) for run in of_form])
        pairs = [last(run) - plain[run['seed']] for run in of_form if run['seed'] in plain]
        difference = f'{np.mean(pairs):+.2f} ± {deviation(pairs)}' if pairs else ''
        lines.append(
            f'| {form} | {len(values)} | {values.mean():.2f} | {deviation(values)} '
            f'| {difference if form != PLAIN else ""} '
            f'| {of_form[0]["multiply_adds"] / 1e6:.3f}M |'
        )
    return lines


def format_loading(runs: list[dict]) -> list[str]:
    if not runs:
        return []
    plain = np.mean([last(run) for run in runs])
    lines = [
        f'Units that take over a trained basic model of {plain:.2f}% accuracy, {len(runs)} seeds',
        '',
        '| form | features move by | accuracy |',
        '|---|---|---|',
    ]
    for form in LOADING_FORMS:
        distance, accuracy = np.mean([run['loaded'][form] for run in runs], axis=0)
        lines.append(f'| {form} | {distance:.2g} | {100 * accuracy:.2f} |')
    return [*lines, '']


def format_shares(forms: dict[str, list[dict]]) -> list[str]:
    wanted = {form: of for form, of in forms.items() if of[0]['shares'][0]}
    if not wanted:
        return []
    lines = [
        'Active collision terms by layer, in percent, at the start / after training, mean of seeds',
        '',
        f'| layer | {" | ".join(wanted)} |',
        f'|---|{"---|" * len(wanted)}',
    ]
    layers = dict.fromkeys(name for of in wanted.values() for name in of[0]['shares'][0])
    for layer in layers:
        cells = []
        for of_form in wanted.values():
            both = [[run['shares'][end].get(layer, np.nan) for run in of_form] for end in (0, 1)]
            start, end = (100 * float(np.mean(values)) for values in both)
            cells.append('' if np.isnan(start) else f'{start:.0f} / {end:.0f}')
        lines.append(f'| {layer.partition(".")[2]} | {" | ".join(cells)} |')
    return lines


def last(run: dict) -> float:
    """The final figure, in percent; mIoU is given in percent already."""
    value = run['curve'][-1][1]
    return value if run['task'] == 'segmentation' else 100 * value


def deviation(values: list[float] | np.ndarray) -> str:
    """The standard deviation over the seeds; one seed has none."""
    return f'{np.std(values, ddof=1):.2f}' if len(values) > 1 else '-'


def draw_curves(runs: list[dict], path: Path) -> None:
    """Draw mean and deviation of each form over training."""
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    tasks = [task for task in METRICS if collect(runs, task)]
    figure, axes = plt.subplots(1, len(tasks), figsize=(5 * len(tasks), 4), squeeze=False)
    for axis, task in zip(axes[0], tasks, strict=True):
        for form, of_form in collect(runs, task).items():
            points = np.array([run['curve'] for run in of_form])
            scale = 1 if task == 'segmentation' else 100
            steps, values = points[0, :, 0], scale * points[:, :, 1]
            mean, spread = values.mean(0), values.std(0, ddof=1 if len(values) > 1 else 0)
            (line,) = axis.plot(steps, mean, label=form, marker='.')
            color = line.get_color()
            axis.fill_between(steps, mean - spread, mean + spread, color=color, alpha=0.12)
        axis.set_title(f'{task}: {METRICS[task]}, percent')
        axis.set_xlabel('epoch' if task == 'classification' else 'step')
        axis.legend(fontsize=7)
        axis.grid(alpha=0.3)
    figure.tight_layout()
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        partial = Path(folder) / path.name
        figure.savefig(partial, dpi=110)
        os.replace(partial, path)
