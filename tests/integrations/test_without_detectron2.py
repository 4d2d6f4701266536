"""Nothing but the Detectron2 integration asks for Detectron2."""

from __future__ import annotations

import subprocess
import sys

# Says of every import of Detectron2 that it was tried, and that there is none.
WATCH = """
import sys

class Watch:
    tried = []

    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] == 'detectron2':
            self.tried.append(name)
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)

sys.meta_path.insert(0, Watch())
"""


def run(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, '-c', WATCH + code], capture_output=True, text=True)


def test_the_package_never_imports_detectron2() -> None:
    done = run(
        'import pkgutil, revcol_backbone, revcol_backbone.integrations\n'
        'import revcol_backbone.inference, revcol_backbone.checkpoints.detectron2_layout\n'
        'print("tried:", Watch.tried)'
    )
    assert 'tried: []' in done.stdout, done.stderr


def test_the_integration_says_in_one_sentence_what_it_needs() -> None:
    done = run('import revcol_backbone.integrations.detectron2')
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == (
        'ImportError: revcol_backbone.integrations.detectron2 needs Detectron2, which cannot be '
        "imported (No module named 'detectron2'); install it as its own documentation says."
    )
