"""The folder of a run: whole files only, and only those of one model and one input."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

RECORD = 'run.json'
UNFINISHED = '.unfinished_predictions'
PICTURES, PREDICTIONS, LABEL_MAPS = 'pictures', 'predictions', 'label_maps'
ALL_PREDICTIONS, CLASS_SHARES = 'predictions.json', 'class_shares.csv'
RESULTS = (PICTURES, PREDICTIONS, LABEL_MAPS, ALL_PREDICTIONS, CLASS_SHARES)


class OutputFolder:
    """A folder in which every file appears at once.

    Args:
        root: The folder, made if it is missing.
        identity: What the results depend on, in words.

    Raises:
        OSError: It cannot be written to.
        ValueError: It holds the results of a run with another identity, or files of other origin
            under the names of results.
    """

    def __init__(self, root: Path, identity: Mapping[str, str]) -> None:
        self.root = root
        self._check(dict(identity))
        try:
            shutil.rmtree(root / UNFINISHED, ignore_errors=True)
            (root / UNFINISHED).mkdir(parents=True)
        except OSError as error:
            raise OSError(
                f'{root} cannot be written to ({error.strerror}); choose another --out.'
            ) from None
        with self.replacing(RECORD) as path:
            path.write_text(json.dumps(dict(identity), indent=2))

    def __truediv__(self, name: str) -> Path:
        return self.root / name

    @contextmanager
    def replacing(self, name: str) -> Iterator[Path]:
        """A path to write a file or a folder to, which then takes the place of ``name``."""
        partial, final = self.root / UNFINISHED / name, self.root / name
        partial.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        final.parent.mkdir(parents=True, exist_ok=True)
        if final.is_dir():
            shutil.rmtree(final)
        os.replace(partial, final)

    def close(self) -> None:
        """Remove what was only needed during the run."""
        shutil.rmtree(self.root / UNFINISHED, ignore_errors=True)

    def _check(self, identity: dict[str, str]) -> None:
        record = self.root / RECORD
        if not record.is_file():
            foreign = [name for name in RESULTS if (self.root / name).exists()]
            if foreign:
                raise ValueError(
                    f'{self.root} has {" and ".join(foreign)}, which no earlier run has written '
                    'and this one would replace; choose another --out.'
                )
            return
        former = json.loads(record.read_text())
        differences = [
            f'{key} was {former.get(key)}, is {identity.get(key)}'
            for key in {**former, **identity}
            if former.get(key) != identity.get(key)
        ]
        if differences:
            raise ValueError(
                f'{self.root} holds the results of another run ({"; ".join(differences)}); choose '
                'another --out, or remove that folder to replace them.'
            )
