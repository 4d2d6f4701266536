"""Checkpoints of a training run: whole files only, from the newest of which training resumes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from logging import Logger
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.fileio import BaseStorageBackend, LocalBackend, register_backend
from mmengine.hooks import CheckpointHook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS

from revcol_backbone.checkpoints.reading import list_first, read_checkpoint
from revcol_backbone.checkpoints.state_dict import check_finite
from revcol_backbone.checkpoints.writing import write_atomically
from revcol_backbone.engine.stopping import TrainingStoppedError, print_stops_in_one_line

LAST_CHECKPOINT = 'last_checkpoint'


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """mmengine's ``CheckpointHook``, which a kill or a full disk cannot leave without a checkpoint.

    - A checkpoint and ``last_checkpoint`` are written under another name, flushed to the disk and
      renamed: a file of the final name is whole at any moment. What ``max_keep_ckpts`` or
      ``save_best`` replaces is removed afterwards, so the disk holds one file more for a moment.
    - Weights that are NaN or infinite are not saved; training stops and the checkpoints stay.
    - ``--resume`` without a file takes the newest whole checkpoint in the work directory, whatever
      ``last_checkpoint`` says; the log names damaged ones. It is an error if all are damaged.

    Arguments are those of ``CheckpointHook``. Folders that are not on a local disk are written as
    ``CheckpointHook`` does.

    Raises:
        TrainingStoppedError: A checkpoint cannot be written, or there is none to resume from.
    """

    backend_args: dict | None
    file_backend: BaseStorageBackend

    def before_run(self, runner: Any) -> None:
        """Choose the checkpoint to resume from."""
        print_stops_in_one_line()
        if not runner._resume or getattr(runner, '_has_loaded', False):
            return
        chosen = [_choose(runner) if is_main_process() else (None, None)]
        broadcast_object_list(chosen)
        path, error = chosen[0]
        if error:
            raise TrainingStoppedError(error)
        if path is not None and hasattr(runner, 'strategy'):
            # `FlexibleRunner` has looked for one already and has found none.
            raise TrainingStoppedError(
                f'{Path(runner.work_dir, LAST_CHECKPOINT)} names no checkpoint; run again with '
                f'--resume {path}.'
            )
        if path is None:
            runner._resume = False
            runner.logger.warning(
                f'--resume found no checkpoint in {runner.work_dir}: training starts at the '
                'beginning.'
            )
        else:
            runner._load_from = path

    def before_train(self, runner: Any) -> None:
        """Prepare to write, and remove what killed runs left half-written."""
        folder = str(self.out_dir or runner.work_dir)
        is_local = '://' not in folder and self.file_client_args is None
        if is_local and self.backend_args is None:
            self.backend_args = dict(backend=AtomicBackend.name)
        super().before_train(runner)
        if is_local and is_main_process():
            for partial in (
                *Path(self.out_dir).glob('*.pth.*.part'),
                *Path(runner.work_dir).glob(f'{LAST_CHECKPOINT}.*.part'),
            ):
                partial.unlink(missing_ok=True)

    def _save_checkpoint_with_step(self, runner: Any, step: int, meta: dict) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        try:
            check_finite(dict(model.named_parameters()), Path('The model'))
        except ValueError as error:
            raise TrainingStoppedError(
                f'no checkpoint was written at step {step}: {error} The checkpoints before it are '
                f'in {self.out_dir}.'
            ) from None
        outdated = self._forget_outdated(runner, step)
        filename = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, filename)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        with _one_sentence(self.last_ckpt):
            runner.save_checkpoint(
                self.out_dir,
                filename,
                self.file_client_args,
                save_optimizer=self.save_optimizer,
                save_param_scheduler=self.save_param_scheduler,
                meta=meta,
                by_epoch=self.by_epoch,
                backend_args=self.backend_args,
                **self.args,
            )
            if is_main_process():
                record = Path(runner.work_dir, LAST_CHECKPOINT)
                write_atomically(record, lambda partial: partial.write_text(self.last_ckpt))
                for path in outdated:
                    self._remove(path)

    def _save_best_checkpoint(self, runner: Any, metrics: dict) -> None:
        # mmengine removes the best one so far before it writes the new one.
        removed: list[str] = []
        backend = self.file_backend
        self.file_backend = _Deferring(backend, removed)
        try:
            with _one_sentence(self.out_dir):
                super()._save_best_checkpoint(runner, metrics)
        finally:
            self.file_backend = backend
        kept = {self.last_ckpt, getattr(self, 'best_ckpt_path', None)}
        kept.update(getattr(self, 'best_ckpt_path_dict', {}).values())
        for path in removed:
            if path not in kept:
                self._remove(path)

    def _forget_outdated(self, runner: Any, step: int) -> list[str]:
        """Count this checkpoint in; return the paths of those that it replaces."""
        if self.max_keep_ckpts <= 0:
            return []
        ids = [id_ for id_ in self.keep_ckpt_ids if id_ != step] + [step]
        self.keep_ckpt_ids.clear()
        self.keep_ckpt_ids.extend(ids[-self.max_keep_ckpts :])
        runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
        return [
            self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(id_))
            for id_ in ids[: -self.max_keep_ckpts]
        ]

    def _remove(self, path: str) -> None:
        if self.file_backend.isfile(path):
            self.file_backend.remove(path)
        elif self.file_backend.isdir(path):  # DeepSpeed writes folders
            self.file_backend.rmtree(path)


class AtomicBackend(LocalBackend):
    """The local disk, where a file that is written appears whole or not at all."""

    name = 'revcol_atomic'

    def put(self, obj: bytes | memoryview, filepath: str | Path) -> None:
        """Write bytes to a file."""
        write_atomically(Path(filepath), lambda partial: partial.write_bytes(obj))


register_backend(AtomicBackend.name, AtomicBackend)


class _Deferring:
    """A file backend whose removals are only noted."""

    def __init__(self, backend: Any, removed: list[str]) -> None:
        self._backend = backend
        self.remove = self.rmtree = removed.append

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)


@contextmanager
def _one_sentence(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TrainingStoppedError(
            f'{path} could not be written ({error.strerror or error}); earlier checkpoints are '
            'whole: make room, and run the same command with --resume.'
        ) from error


def _choose(runner: Any) -> tuple[str | None, str | None]:
    """The checkpoint to resume from, or why there is none."""
    try:
        if runner._load_from is not None:
            _require_whole(Path(runner._load_from))
            return runner._load_from, None
        path = find_resumable(Path(runner.work_dir), runner.logger)
        return str(path) if path else None, None
    except ValueError as error:
        return None, str(error)


def _require_whole(path: Path) -> None:
    if path.expanduser().is_file():  # anything else is for mmengine's loaders
        read_checkpoint(path.expanduser())


def find_resumable(folder: Path, logger: Logger) -> Path | None:
    """Find the checkpoint of the most iterations that is whole.

    Args:
        folder: A work directory. A file elsewhere that its ``last_checkpoint`` names counts, too.
        logger: Gets a line for each newer checkpoint that is damaged.

    Returns:
        The file; ``None`` if there is no checkpoint at all.

    Raises:
        ValueError: There are checkpoints, and all are damaged.
    """
    candidates = {path.resolve() for path in folder.glob('*.pth')}
    record = folder / LAST_CHECKPOINT
    if record.is_file() and (named := record.read_text(errors='replace').strip()):
        candidates.add(Path(named).resolve())
    problems: list[tuple[int, Path, Exception]] = []
    resumable: list[tuple[int, Path]] = []
    for path in sorted(candidates):
        try:
            iterations = _iterations(path)
        except Exception as error:  # a damaged file can raise anything
            problems.append((_number_in_name(path), path, error))
            continue
        if iterations is not None:
            resumable.append((iterations, path))
    for _, path in sorted(resumable, reverse=True):
        try:
            read_checkpoint(path)
        except ValueError as error:
            problems.append((_number_in_name(path), path, error))
            continue
        for _, damaged, reason in problems:
            logger.warning(f'{damaged} cannot be used: {_first_line(reason)}')
        logger.info(f'Training resumes from {path}')
        return path
    if problems:
        names = list_first(str(path) for _, path, _ in sorted(problems, reverse=True, key=str))
        raise ValueError(
            f'no checkpoint in {folder} can be resumed from: {names} are damaged or missing; copy '
            'a whole one there, or run without --resume to start at the beginning.'
        )
    return None


def _iterations(path: Path) -> int | None:
    """How many iterations a checkpoint has seen; ``None`` if training cannot resume from it."""
    checkpoint = torch.load(path, map_location='cpu', weights_only=True, mmap=True)
    if not {'optimizer', 'message_hub'} <= set(checkpoint):
        return None
    return int(checkpoint['meta']['iter'])


def _number_in_name(path: Path) -> int:
    numbers = re.findall(r'\d+', path.stem)
    return int(numbers[-1]) if numbers else -1


def _first_line(error: Exception) -> str:
    return f'{type(error).__name__}: {error}'.split('\n')[0]
