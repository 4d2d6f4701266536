"""Any command line and any override of a config work, or are one line of error."""

import contextlib
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.inference import models
from tests.inference.run_files import write_every_kind
from tests.properties.cases import cases
from tools import check_dataset, demo_app, infer_det

WORDS = st.one_of(
    st.sampled_from(
        ['0', '-1', '3', '0.5', '1e9', 'nan', 'cpu', 'cuda:99', '', '[', 'a=b', 'None', '/', '..']
    ),
    st.text(max_size=6).filter(lambda text: '\0' not in text),
)
FLAGS = {
    infer_det: (
        *('--score-thr', '--batch-size', '--device', '--tta', '--tile', '--overlap'),
        *('--no-visualizations', '--cfg-options', '--nonsense'),
    ),
    demo_app: ('--device', '--host', '--port', '--max-upload', '--examples', '--nonsense'),
    check_dataset: ('--splits', '--sample', '--counts', '--classes', '--nonsense'),
}
KEYS = st.sampled_from(
    [
        *('model', 'model.type', 'model.backbone', 'model.data_preprocessor', 'model.nonsense'),
        *('model.data_preprocessor.mean', 'model.data_preprocessor.type', 'test_dataloader'),
        *('test_dataloader.dataset', 'test_dataloader.dataset.type', 'default_scope'),
        *('test_dataloader.dataset.pipeline', 'test_dataloader.dataset.pipeline.0.type'),
        *('test_dataloader.dataset.metainfo.classes', 'tta_model', 'custom_imports', 'a..b', ''),
    ]
)


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """A detector that needs no training, and an image."""
    folder = tmp_path_factory.mktemp('files')
    write_every_kind(folder / 'in')
    return [*map(str, models.make_color_detector(folder)), str(folder / 'in/one_pixel.png')], folder


def end(main, arguments):
    """Run a command; returns its exit status and what it wrote to standard error."""
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
        try:
            status = main(arguments)
        except SystemExit as ended:
            status = ended.code or 0
    return status, errors.getvalue()


def assert_ended_well(status, errors):
    assert status in (0, 1, 2)
    assert 'Traceback' not in errors
    if status == 1:
        lines = [line for line in errors.splitlines() if line.startswith(('error: ', 'failed: '))]
        assert lines, errors


def options_of(tool):
    flags = st.sampled_from(FLAGS[tool])
    return st.lists(st.one_of(flags, WORDS, st.builds('{}={}'.format, flags, WORDS)), max_size=5)


@pytest.mark.slow
@cases(60)
@given(options=options_of(infer_det))
def test_any_command_line_of_infer_det_ends_well(files, options):
    arguments, folder = files
    assert_ended_well(*end(infer_det.main, [*arguments, '--out', str(folder / 'out'), *options]))


@cases(60)
@given(options=options_of(check_dataset), name=st.sampled_from(['coco', 'label-maps', 'x']))
def test_any_command_line_of_check_dataset_ends_well(files, options, name):
    _, folder = files
    paths = [str(folder)] * (1 if name == 'coco' else 2)
    assert_ended_well(*end(check_dataset.main, [name, *paths, *options]))


@cases(40)
@given(options=options_of(demo_app))
def test_any_command_line_of_the_demo_is_parsed_or_an_error(options):
    status, errors = end(
        lambda arguments: demo_app.parse_arguments(arguments) and 0, ['a.py', 'b.pth', *options]
    )
    assert_ended_well(status, errors)


@pytest.mark.slow
@cases(60)
@given(pairs=st.lists(st.tuples(KEYS, WORDS), min_size=1, max_size=2))
def test_any_override_of_a_config_works_or_is_one_line(files, pairs):
    arguments, folder = files
    options = ['--cfg-options', *(f'{key}={value}' for key, value in pairs)]
    out = folder / f'out{abs(hash(tuple(pairs)))}'
    assert_ended_well(*end(infer_det.main, [*arguments, '--out', str(out), *options]))
