"""Finding the pictures and videos that an input means."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from revcol_backbone.inference.images import EXTENSIONS
from revcol_backbone.inference.output_folder import RECORD, RESULTS, UNFINISHED
from revcol_backbone.inference.video import VIDEO_EXTENSIONS


@dataclass(frozen=True, order=True)
class Input:
    """A picture or a video.

    Attributes:
        path: The file.
        name: The name of its results: relative to the folder of the run, with forward slashes.
        modified: When it was changed last, in nanoseconds.
    """

    path: Path
    name: str
    modified: int

    @property
    def is_video(self) -> bool:
        return self.path.suffix.lower() in VIDEO_EXTENSIONS


@dataclass(frozen=True)
class Inputs:
    """What is to be predicted, and what of a folder is neither picture nor video."""

    folder: Path
    found: tuple[Input, ...]
    left_out: tuple[Path, ...]


def find_inputs(source: str | Path, out: Path) -> Inputs:
    """Find pictures and videos by their suffixes.

    Args:
        source: One file, a folder (with its sub-folders) or a glob (``**`` for any depth).
        out: The folder of the results, which are no input.

    Raises:
        FileNotFoundError: Nothing is there.
        ValueError: What is there are no pictures or videos.
    """
    path = Path(source)
    if path.is_dir():
        folder, files = path, [file for file in path.rglob('*') if not file.is_dir()]
    elif path.exists():
        folder, files = path.parent, [path]
    else:
        folder = _fixed_part(path)
        matches = map(Path, glob.glob(str(source), recursive=True))
        files = [match for match in matches if not match.is_dir()]
        if not files:
            raise FileNotFoundError(
                f'{source} is no file and no folder, and no file matches it; correct INPUT.'
            )
    files = _without_results(sorted(files), out)
    known = {*EXTENSIONS, *VIDEO_EXTENSIONS}
    found = [file for file in files if file.suffix.lower() in known]
    if not found:
        raise ValueError(
            f'{source} has no pictures and no videos; their names end in '
            f'{", ".join(sorted(known))}.'
        )
    return Inputs(
        folder=folder.resolve(),
        found=tuple(
            Input(file, file.relative_to(folder).as_posix(), _modified(file)) for file in found
        ),
        left_out=tuple(file for file in files if file not in set(found)),
    )


def _without_results(files: Sequence[Path], out: Path) -> list[Path]:
    """Leave out what earlier runs wrote into their folder."""
    if not (out / RECORD).is_file():
        return list(files)
    results = {out.resolve() / name for name in (*RESULTS, UNFINISHED)}
    return [file for file in files if results.isdisjoint((file.resolve(), *file.resolve().parents))]


def _modified(file: Path) -> int:
    return file.stat().st_mtime_ns if file.exists() else 0  # a link may lead nowhere


def _fixed_part(pattern: Path) -> Path:
    """The folder that every match of a glob is in."""
    fixed = Path()
    for part in pattern.parts[:-1]:
        if glob.has_magic(part):
            break
        fixed /= part
    return fixed
