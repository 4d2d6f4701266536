"""The published parameters and FLOPs are met, and a figure that is missed is reported."""

from __future__ import annotations

import functools
from unittest import mock

import pytest
from mmengine.fileio import dump, load

from tests.published_numbers import (
    BACKBONES,
    CASCADE,
    CLASSIFIERS,
    REDNET_DETECTORS,
    REDNET_SEGMENTORS,
    UPERNET,
)
from tests.tools.commands import error_of
from tools.verify_published import compare, main


def rows(output: str) -> dict[str, str]:
    """The rows of the printed tables, by the name of the model."""
    return {line[:34].strip(): line for line in output.splitlines() if len(line) > 100}


@pytest.fixture
def verify(tmp_path, capsys):
    """Verify RevCol-T as a classifier with the given fields in its metafile."""

    def run(**fields: str) -> tuple[int, str]:
        entry = {
            'Name': 'tiny',
            'Metadata': {
                'Method': 'Classifier',
                'Backbone': 'RevCol-T',
                'Backbone Config': {'type': 'RevCol', 'arch': 'tiny'},
                'FLOPs Input': '224 x 224',
                **{name.replace('_', ' '): value for name, value in fields.items()},
            },
            'Results': [{'Task': 'Any', 'Dataset': 'ImageNet-1K', 'Metrics': {'top-1': 82.2}}],
        }
        dump({'Models': [entry]}, tmp_path / 'metafile.yml')
        dump({'Import': ['metafile.yml']}, tmp_path / 'model-index.yml')
        status = main(['--index', str(tmp_path / 'model-index.yml')])
        return status, capsys.readouterr().out

    return run


@pytest.mark.slow
def test_every_published_figure_is_met_or_cannot_be_right(capsys):
    # mmengine reads all of a project's metafiles for every inherited file.
    with mock.patch('mmengine.config.utils.load', functools.cache(load)):
        status = main([])
    output = capsys.readouterr().out
    assert status == 0, output
    assert 'MISSED' not in output
    verdicts = [line for line in output.splitlines() if 'cannot be right' in line]
    assert [line.split()[0] for line in verdicts] == [
        'revcol_b_upernet',
        'revcol_b_upernet_in22k',
        'revcol_h_in1k_640',
    ]
    printed = [line for line in output.splitlines() if '   ok' in line]
    # B was published twice as a classifier; of the three headline models only Mask2Former's size.
    tables = (BACKBONES, CASCADE, UPERNET, REDNET_DETECTORS, REDNET_SEGMENTORS, CLASSIFIERS)
    # IC networks stand beside their basic model.
    assert len(printed) == sum(map(len, tables)) + 1 + 1 + 1


@pytest.mark.parametrize(
    ('parameters', 'flops', 'missed'),
    [
        ('30.2M', '4.5G', None),
        ('31M', '4.5G', 'MISSED parameters'),
        ('30.46M', '4.7G', 'MISSED FLOPs'),
        ('25M', '9G', 'MISSED parameters and FLOPs'),
    ],
)
def test_a_missed_figure_is_named_and_fails(parameters, flops, missed, verify):
    status, output = verify(Parameters=parameters, FLOPs=flops)
    assert status == (1 if missed else 0)
    assert (missed or 'ok') in rows(output)['tiny']
    assert ('1 missed' in output) == bool(missed)


@pytest.mark.parametrize(('counted', 'expected'), [('30.5M', 0), ('32M', 1)])
def test_an_impossible_figure_is_explained_and_replaced_by_a_count(counted, expected, verify):
    status, output = verify(
        Parameters='12M',
        Parameters_Counted=counted,
        Parameters_Remark='the backbone alone has 29.9M',
    )
    assert status == expected
    reason = f'12M cannot be right: the backbone alone has 29.9M; counted {counted}'
    assert reason in rows(output)['tiny']


def test_a_wider_tolerance_is_said_beside_the_verdict(verify):
    assert verify(Parameters='31M')[0] == 1
    status, output = verify(Parameters='31M', Parameters_Tolerance='2%')
    assert status == 0
    assert 'ok; within 2%' in rows(output)['tiny']


def test_a_figure_is_met_within_its_tolerance_or_in_its_printed_digits():
    assert compare(100_900_000, '100M', '1%').met
    assert not compare(101_600_000, '100M', '1%').met
    assert compare(30_456_192, '30M', '1%').by_rounding
    assert not compare(30_600_000, '30M', '1%').met
    assert compare(29_942_144, '29,942,144', '1%').ours == '29,942,144'


def test_one_model_is_verified_by_part_of_its_name(capsys):
    assert main(['rednet-26']) == 0
    output = capsys.readouterr().out
    assert list(rows(output)) == ['model', 'rednet26_in1k']
    assert '9.23M' in output
    assert '1.69G' in output


def test_an_unknown_name_is_an_error_that_repeats_it():
    assert 'no published model has RevCol-Z in its name' in error_of(main, 'RevCol-Z')


def test_an_ic_network_stands_beside_its_basic_model(capsys):
    assert main(['IC-ResNet-50']) == 0
    output = capsys.readouterr().out
    assert 'Beside the basic model' in output
    (row,) = [line for line in output.splitlines() if line.startswith('ic_resnet50_in1k')]
    assert row.split()[1:4] == ['25.56M', '25.56M', '+0.03%']
    assert row.endswith('ok')
