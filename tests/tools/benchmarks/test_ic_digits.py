"""The comparison on the digits trains what it says, and its tables are of the results it finds."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from types import ModuleType

import pytest

from tests.configs import ROOT

TOOLS = ROOT / 'tools/benchmarks'
PLAIN, DEFAULT = 'ResNet-18', "IC, w' from 0"


@pytest.fixture
def load(monkeypatch):
    """Imports a file of the tool, with other values for its constants."""
    monkeypatch.syspath_prepend(str(TOOLS))

    def load(name: str, **constants: object) -> ModuleType:
        module = importlib.import_module(name)
        for key, value in constants.items():
            monkeypatch.setattr(module, key, value)
        return module

    return load


def test_every_form_is_trained_with_the_cost_of_the_plain_one(load):
    settings = dict(WIDTH=4, TRAIN_IMAGES=100, EPOCHS=2, POINTS=2, BATCH_SIZE=50)
    tool = load('ic_digits_classification', **settings)
    forms = importlib.import_module('ic_digits_forms').FORMS
    found = {form: tool.classify(form, 0) for form in forms}
    for form, result in found.items():
        assert [epoch for epoch, _ in result['curve']] == [1, 2], form
        assert all(0 <= accuracy <= 1 for _, accuracy in result['curve'])
        assert result['multiply_adds'] == pytest.approx(found[PLAIN]['multiply_adds'], rel=0.01)
    assert found[PLAIN]['shares'] == [{}, {}]
    assert len(found[DEFAULT]['shares'][0]) == 16
    # With a gain of 0 the units are the basic model, and without one they are not.
    assert found[PLAIN]['loaded']["IC, w' from 0, gain from 0"][0] == 0
    assert found[PLAIN]['loaded'][DEFAULT][0] > 0


@pytest.mark.slow
@pytest.mark.parametrize('task', ['detection', 'segmentation'])
def test_a_detector_and_a_segmentor_differ_in_their_backbone_alone(load, tmp_path, task):
    scenes = ('--train', '4', '--val', '2')
    tool = load('ic_digits_downstream', SCENES=scenes, STEPS={task: 2}, POINTS=2)
    results = [tool.train_downstream(task, form, 0, tmp_path) for form in (PLAIN, DEFAULT)]
    for result in results:
        assert [step for step, _ in result['curve']] == [1, 2]
    assert results[0]['multiply_adds'] == pytest.approx(results[1]['multiply_adds'], rel=0.01)


def test_tables_and_curves_are_of_the_runs_that_are_there(tmp_path):
    for form, values in ((PLAIN, (0.90, 0.92)), (DEFAULT, (0.93, 0.91))):
        for seed, value in enumerate(values):
            result = dict(
                task='classification',
                form=form,
                seed=seed,
                curve=[[1, 0.5], [2, value]],
                multiply_adds=2_000_000,
                shares=[{}, {}],
            )
            (tmp_path / f'classification-{len(form)}-{seed}.json').write_text(json.dumps(result))
    command = [sys.executable, TOOLS / 'ic_digits.py', '--seeds', '0', '--out', tmp_path]
    table = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert '| ResNet-18 | 2 | 91.00 | 1.41 |  | 2.000M |' in table
    assert "| IC, w' from 0 | 2 | 92.00 | 1.41 | +1.00 ± 2.83 | 2.000M |" in table
    assert (tmp_path / 'curves.png').stat().st_size > 10_000
