"""The config of a model that predicts: its data set's test pipeline, or its augmented one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

# What the models of a package are, and the tool for them.
PACKAGES = {'mmdet': ('a detector', 'infer_det.py'), 'mmseg': ('a segmentor', 'infer_seg.py')}


def read_config(
    path: str | Path, options: Mapping[str, Any] | None = None, package: str | None = None
) -> Config:
    """Read a config of mmdet or mmseg for prediction.

    Args:
        path: The config file.
        options: Changes, as of ``--cfg-options``.
        package: ``'mmdet'`` or ``'mmseg'`` to take only its configs.

    Returns:
        The config; its ``test_dataloader.dataset`` is the innermost data set, and nothing of its
        model asks for the weights of a pre-training.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no config, or not one of a detector or a segmentor, as asked for.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'{path} is not a file; give the config of the checkpoint.')
    try:
        config = Config.fromfile(path)
        config.merge_from_dict(dict(options or {}))
    except Exception as error:  # a config is code, which can raise anything
        raise ValueError(
            f'{path} could not be read as a config ({type(error).__name__}: {error}); give a '
            'config of mmdet or mmseg, and options that it has.'
        ) from error
    for key in ('model', 'test_dataloader'):
        if key not in config:
            raise ValueError(f'{path} has no `{key}`; give the whole config of a trained model.')
    scope = config.get('default_scope')
    if scope not in PACKAGES:
        raise ValueError(
            f"{path} has default_scope={scope!r}; a detector needs 'mmdet', a segmentor 'mmseg'."
        )
    if package not in (None, scope):
        kind, tool = PACKAGES[scope]
        raise ValueError(f'{path} is the config of {kind}; use tools/{tool}.')
    for part in (config.model, config.model.get('backbone', {})):
        part.pop('pretrained', None)
    config.test_dataloader.dataset = innermost_dataset(config.test_dataloader.dataset)
    return config


def use_augmented_test(config: Config, path: str | Path) -> None:
    """Let a config predict by its ``tta_model`` and ``tta_pipeline``, as ``mim test --tta`` does.

    Raises:
        ValueError: It lacks one of them; ``path`` is for the message.
    """
    missing = [key for key in ('tta_model', 'tta_pipeline') if key not in config]
    if missing:
        raise ValueError(
            f'{path} has no {" and no ".join(f"`{key}`" for key in missing)}, which test-time '
            'augmentation needs; add what is missing to the config (det_configs/_base_/'
            'multi_scale_test.py and seg_configs/_base_/ade20k_512x512.py show how) or leave out '
            '`--tta`.'
        )
    config.test_dataloader.dataset.pipeline = config.tta_pipeline
    config.model = ConfigDict(**config.tta_model, module=config.model)


def innermost_dataset(dataset: ConfigDict) -> ConfigDict:
    """The data set itself, without those that repeat, mix or join it (the first of several)."""
    while 'dataset' in dataset or 'datasets' in dataset:
        dataset = dataset.dataset if 'dataset' in dataset else dataset.datasets[0]
    return dataset
