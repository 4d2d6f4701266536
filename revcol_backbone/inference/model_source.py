"""Where a model to predict with comes from: files, the model zoo, an address or a hub."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from revcol_backbone.checkpoints.sources import download_verified, is_url
from revcol_backbone.integrations.hugging_face import PREFIX, download_model
from revcol_backbone.model_zoo import INSTALLED, find_config, read_model_index


def find_model(
    config: str | Path, checkpoint: str | Path | None
) -> tuple[Path, Path, Mapping[str, Any]]:
    """Find the files of a model, which are downloaded once if they are not on this machine.

    Args:
        config: A config file; the name of an installed config, such as ``'revcol_t_cascade'``; or
            ``'hf-hub:user/repository'``.
        checkpoint: A file or an ``http(s)`` address; ``None`` for the published file of the name,
            or for that of the repository.

    Returns:
        The config, the checkpoint, and changes to the config that belong to them.

    Raises:
        FileNotFoundError: The config is a path that does not exist.
        ValueError: There is no such model, or nothing is published for it.
        ConnectionError: The checkpoint could not be downloaded.
    """
    if str(config).startswith(PREFIX):
        if checkpoint is not None:
            raise ValueError(f'{config} has its own checkpoint; omit {checkpoint}')
        model = download_model(str(config))
        return model.config, model.checkpoint, model.options
    path = _find_config(config)
    if checkpoint is None:
        checkpoint = _published_file(path)
    if is_url(str(checkpoint)):
        return path, download_verified(str(checkpoint)), {}
    return path, Path(checkpoint), {}


def _find_config(config: str | Path) -> Path:
    is_name = isinstance(config, str) and '/' not in config and not Path(config).exists()
    if is_name and not str(config).endswith('.py'):
        return find_config(str(config))
    return Path(config)


def _published_file(config: Path) -> str:
    models = {model.name: model for model in read_model_index(INSTALLED / 'model-index.yml')}
    model = models.get(config.stem)
    if model is None or model.weights is None or config != find_config(config.stem):
        raise ValueError(
            f'no trained weights are published for {config.stem}; give a checkpoint. `revcol zoo` '
            'lists the models that have one'
        )
    return model.weights
