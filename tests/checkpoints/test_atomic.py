"""Files are written whole or not at all."""

from __future__ import annotations

import pytest

from revcol_backbone.checkpoints.atomic import write_whole


def test_a_file_is_written_into_a_folder_that_is_made(tmp_path):
    path = tmp_path / 'new' / 'result.json'
    assert write_whole(path, lambda partial: partial.write_text('all of it')) == path
    assert path.read_text() == 'all of it'
    assert list(path.parent.iterdir()) == [path]


def test_an_interrupted_write_leaves_what_was_there(tmp_path):
    path = tmp_path / 'result.json'
    path.write_text('before')

    def fail(partial):
        partial.write_text('half')
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(path, fail)
    assert path.read_text() == 'before'
    assert list(tmp_path.iterdir()) == [path]
