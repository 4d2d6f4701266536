"""The published parameters and FLOPs are met, and a figure that is missed is reported."""

from __future__ import annotations

import functools
from unittest import mock

import pytest
from mmengine.fileio import load

from revcol_backbone import published
from revcol_backbone.published import Impossible, PublishedModel
from tests.tools.commands import error_of
from tools import verify_published
from tools.verify_published import compare, main

TINY = {'type': 'RevCol', 'arch': 'tiny'}


def rows(output: str) -> dict[str, str]:
    """The rows of the printed tables, by the name of the model."""
    return {line[:34].strip(): line for line in output.splitlines() if len(line) > 100}


def verify_only(model: PublishedModel, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(verify_published, 'SECTIONS', {'One model': (model,)})
    return main([])


@pytest.mark.slow
def test_every_published_figure_is_met_or_cannot_be_right(capsys):
    # mmengine reads all of a project's metafiles for every inherited file.
    with mock.patch('mmengine.config.utils.load', functools.cache(load)):
        status = main([])
    output = capsys.readouterr().out
    assert status == 0, output
    assert 'MISSED' not in output
    verdicts = [line for line in output.splitlines() if 'cannot be right' in line]
    assert [line.split('  ')[0] for line in verdicts] == [
        'RevCol-H',
        'UPerNet, RevCol-B',
        'UPerNet, RevCol-B 22K',
    ]
    tables = (
        *(published.BACKBONES, published.CLASSIFIERS, published.DETECTORS, published.SEGMENTORS),
    )
    printed = [line for line in output.splitlines() if '   ok' in line]
    assert len(printed) == sum(map(len, tables))


@pytest.mark.parametrize(
    ('parameters', 'flops', 'missed'),
    [
        ('30.2M', '4.5G', None),
        ('31M', '4.5G', 'MISSED parameters'),
        ('30.46M', '4.7G', 'MISSED FLOPs'),
        ('25M', '9G', 'MISSED parameters and FLOPs'),
    ],
)
def test_a_missed_figure_is_named_and_fails(parameters, flops, missed, monkeypatch, capsys):
    model = PublishedModel('RevCol-T', TINY, (224, 224), parameters, flops)
    status = verify_only(model, monkeypatch)
    output = capsys.readouterr().out
    assert status == (1 if missed else 0)
    assert (missed or 'ok') in rows(output)['RevCol-T']
    assert ('1 missed' in output) == bool(missed)


@pytest.mark.parametrize(('counted', 'status'), [('30.5M', 0), ('32M', 1)])
def test_an_impossible_figure_is_explained_and_replaced_by_a_count(
    counted, status, monkeypatch, capsys
):
    impossible = Impossible(counted, 'the backbone alone has 29.9M')
    model = PublishedModel('RevCol-T', TINY, (224, 224), '12M', '4.5G', impossible)
    assert verify_only(model, monkeypatch) == status
    reason = f'12M cannot be right: the backbone alone has 29.9M; counted {counted}'
    assert reason in rows(capsys.readouterr().out)['RevCol-T']


def test_a_figure_is_met_within_its_tolerance_or_in_its_printed_digits():
    assert compare(100_900_000, '100M', 0.01).met
    assert not compare(101_600_000, '100M', 0.01).met
    assert compare(30_456_192, '30M', 0.01).by_rounding
    assert not compare(30_600_000, '30M', 0.01).met
    assert compare(29_942_144, '29,942,144', 0.01).ours == '29,942,144'
    assert compare(123, None, 0.01).met


def test_one_model_is_verified_by_part_of_its_name(capsys):
    assert main(['rednet-26']) == 0
    output = capsys.readouterr().out
    assert list(rows(output)) == ['model', 'RedNet-26']
    assert '9.23M' in output
    assert '1.69G' in output


def test_an_unknown_name_is_an_error_that_repeats_it():
    assert 'no published model has RevCol-Z in its name' in error_of(main, 'RevCol-Z')
