"""Trained models on the Hugging Face Hub: publishing one, and loading one without trusting it.

A repository holds weights as safetensors and a ``config.json`` with the *name* of a config of this
package and the class names. It holds no config of its own: a config names functions to call, so
that reading a stranger's would run the stranger's code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from mmengine.config import Config

from revcol_backbone.checkpoints.reading import read_weights
from revcol_backbone.checkpoints.writing import write_atomically
from revcol_backbone.model_zoo import find_config
from revcol_backbone.version import __version__

PREFIX = 'hf-hub:'
CONFIG, WEIGHTS, CARD = 'config.json', 'model.safetensors', 'README.md'
TASKS = dict(mmdet='object-detection', mmseg='image-segmentation')


@dataclass(frozen=True)
class HubModel:
    """A downloaded model.

    Args:
        config: The config of this package that it belongs to.
        checkpoint: Its weights.
        options: Changes to the config, as in ``--cfg-options``: the classes and their number.
    """

    config: Path
    checkpoint: Path
    options: Mapping[str, Any]


def download_model(name: str) -> HubModel:
    """Download a model, or find it in the cache of huggingface_hub.

    Args:
        name: ``'hf-hub:user/repository'``; ``@revision`` may follow.

    Raises:
        ImportError: huggingface_hub is not installed.
        ValueError: The repository is not there, or not one that :func:`push_to_hub` makes.
    """
    hub = _import_hub()
    repository, _, revision = name.removeprefix(PREFIX).partition('@')
    try:
        config, weights = (
            Path(hub.hf_hub_download(repository, file, revision=revision or None))
            for file in (CONFIG, WEIGHTS)
        )
    except (hub.errors.HfHubHTTPError, hub.errors.LocalEntryNotFoundError) as error:
        raise ValueError(
            f'{name} could not be loaded: it needs {CONFIG} and {WEIGHTS} ({type(error).__name__})'
        ) from error
    try:
        content = json.loads(config.read_text('utf-8'))
        path, classes = find_config(content['config']), content['classes']
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f'{CONFIG} of {name} does not name a config and classes of revcol-backbone: {error}'
        ) from error
    return HubModel(path, weights, class_options(path, classes) if classes else {})


def save_model(
    folder: Path,
    config: str,
    checkpoint: Path,
    classes: Sequence[str] | None = None,
    repository: str = 'USER/REPOSITORY',
) -> None:
    """Write what a repository holds: weights, ``config.json`` and a model card.

    Args:
        folder: Where to; it is made if it is missing.
        config: The name of an installed config, such as ``'revcol_t_cascade'``.
        checkpoint: A trained checkpoint of it.
        classes: The class names, where they are not those of the config.
        repository: Where the model is to be found, for the example in its card.

    Raises:
        ValueError: There is no such config, or the checkpoint cannot be read.
    """
    from safetensors.torch import save_file

    content = Config.fromfile(find_config(config))
    weights = {name: tensor.contiguous() for name, tensor in read_weights(checkpoint).items()}
    write_atomically(folder / WEIGHTS, lambda path: save_file(weights, path, {'format': 'pt'}))
    entries = dict(
        config=config,
        classes=None if classes is None else list(classes),
        revcol_backbone=__version__,
    )
    text = json.dumps(entries, indent=2, ensure_ascii=False) + '\n'
    write_atomically(folder / CONFIG, lambda path: path.write_text(text, 'utf-8'))
    card = model_card(repository, config, content.default_scope, classes)
    write_atomically(folder / CARD, lambda path: path.write_text(card, 'utf-8'))


def push_to_hub(
    repository: str,
    folder: Path,
    config: str,
    checkpoint: Path,
    classes: Sequence[str] | None = None,
    private: bool = False,
) -> str:
    """Publish a trained model, so that ``load_predictor('hf-hub:user/repository')`` loads it.

    Args:
        repository: ``'user/repository'``; it is created if it is missing.
        folder: Where to write its files first; see :func:`save_model` for these and the rest.
        config: The name of an installed config.
        checkpoint: A trained checkpoint of it.
        classes: The class names, where they are not those of the config.
        private: Whether a new repository is private.

    Returns:
        The address of the commit.

    Raises:
        ImportError: huggingface_hub is not installed.
        ValueError: As :func:`save_model`, or the Hub refused the files.
        ConnectionError: The Hub cannot be reached.
    """
    hub = _import_hub()
    save_model(folder, config, checkpoint, classes, repository)
    api = hub.HfApi()
    files = [CONFIG, WEIGHTS, CARD]
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        return str(api.upload_folder(repo_id=repository, folder_path=folder, allow_patterns=files))
    except hub.errors.HfHubHTTPError as error:
        status = error.response.status_code
        cure = 'log in with `hf auth login`' if status in (401, 403) else 'try again'
        raise ValueError(
            f'{repository} was not published, for the Hub answered with status {status}; {cure}. '
            f'The files are in {folder}'
        ) from error
    except hub.errors.HTTPError as error:  # that of its HTTP client, as when nothing answers
        raise ConnectionError(
            f'{repository} was not published, for the Hub cannot be reached ({error}); the files '
            f'are in {folder}'
        ) from error


def class_options(config: Path, classes: Sequence[str]) -> dict[str, Any]:
    """Return the changes that give a config other classes: their names, and the heads' sizes.

    Raises:
        ValueError: ``classes`` is not a list of names.
    """
    if not isinstance(classes, list | tuple) or not all(isinstance(name, str) for name in classes):
        raise ValueError(f'classes have to be a list of names, not {classes!r}')
    content = Config.fromfile(config)
    options = {path: len(classes) for path in _paths(content.model, 'model', 'num_classes')}
    return options | {'test_dataloader.dataset.metainfo': dict(classes=tuple(classes))}


def model_card(repository: str, config: str, library: str, classes: Sequence[str] | None) -> str:
    """Return the text of ``README.md`` of a repository, with the fields that the Hub reads."""
    names = 'those of the config' if classes is None else ', '.join(classes)
    return f"""---
library_name: revcol-backbone
pipeline_tag: {TASKS.get(library, 'image-classification')}
tags: [revcol, {library}, "arxiv:2212.11696"]
---

# {config}

A model of [RevCol](https://arxiv.org/abs/2212.11696), config `{config}` of revcol-backbone
{__version__}. Classes: {names}.

```python
from revcol_backbone.inference import load_predictor, read_image

predictor = load_predictor('hf-hub:{repository}')
prediction = predictor.predict([read_image('street.jpg')])[0]
```
"""


def _paths(value: Any, path: str, key: str) -> list[str]:
    items = value.items() if isinstance(value, Mapping) else enumerate(value)
    found = []
    for name, inner in items:
        if name == key:
            found.append(f'{path}.{name}')
        elif isinstance(inner, Mapping | list | tuple):
            found += _paths(inner, f'{path}.{name}', key)
    return found


def _import_hub() -> ModuleType:
    try:
        import huggingface_hub
    except ImportError as error:
        raise ImportError(
            'models of the Hugging Face Hub need huggingface_hub; run '
            "`pip install 'revcol-backbone[hub]'`"
        ) from error
    return huggingface_hub
