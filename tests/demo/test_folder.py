"""The folder of visitors' files is gone after any end of the demo, and no other folder is."""

import signal
import subprocess
import sys

import pytest

from revcol_backbone.demo.folder import private_folder, remove_leftovers

HOLD = """
import time
from revcol_backbone.demo.folder import private_folder
with private_folder() as folder:
    (folder / 'visitor.png').touch()
    print(folder, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    monkeypatch.setenv('TMPDIR', str(tmp_path))
    monkeypatch.setattr('tempfile.tempdir', None)
    return tmp_path


def test_the_folder_is_deleted_in_the_end(temporary):
    with private_folder() as folder:
        (folder / 'visitor.png').touch()
        assert folder.parent == temporary
    assert list(temporary.iterdir()) == []


def test_a_running_demo_keeps_its_folder_and_that_of_a_killed_one_is_deleted(temporary):
    process = subprocess.Popen([sys.executable, '-c', HOLD], stdout=subprocess.PIPE, text=True)
    folder = temporary / process.stdout.readline().strip()
    remove_leftovers()
    assert (folder / 'visitor.png').exists()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert (folder / 'visitor.png').exists()
    with private_folder():
        assert not folder.exists()


def test_links_and_folders_of_others_are_left_alone(temporary):
    target = temporary / 'target'
    target.mkdir()
    (target / 'lock').touch()
    (temporary / 'revcol_demo_link').symlink_to(target)
    (temporary / 'revcol_demo_without_lock').mkdir()
    remove_leftovers()
    assert (target / 'lock').exists()
    assert (temporary / 'revcol_demo_without_lock').exists()
