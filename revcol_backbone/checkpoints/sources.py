"""Finding a checkpoint: a local file, or an address whose file is downloaded once."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import unquote, urlparse

import torch
from mmengine.dist import all_gather_object, get_rank
from mmengine.logging import print_log

from revcol_backbone.checkpoints.download import download
from revcol_backbone.checkpoints.verify import check_file, read_fingerprint

_RELEASE = 'https://github.com/megvii-research/RevCol/releases/download/checkpoint'
_HUB = 'https://huggingface.co/LarryTsai/RevCol/resolve/main/revcol_models'

# Every published file, by name.
PUBLISHED: dict[str, str] = {
    name: f'{folder}/{name}'
    for folder, names in {
        _RELEASE: (
            'revcol_tiny_1k.pth',
            'revcol_small_1k.pth',
            'revcol_base_1k.pth',
            'revcol_base_22k.pth',
            'revcol_base_22k_1kft_224.pth',
            'revcol_base_22k_1kft_384.pth',
            'revcol_large_22k.pth',
            'revcol_large_22k_1kft_224.pth',
            'revcol_large_22k_1kft_384.pth',
        ),
        f'{_HUB}/classification': (
            'revcol_huge_megdata.pth',
            'revcol_huge_megdata_in1k.pth',
        ),
        f'{_HUB}/detection': (
            'cmr_tiny_3x_in1k_AP508.pth',
            'cmr_revcol_small_3x_in1k.pth',
            'cmr_base_3x_in1k.pth',
            'cmr_base_3x_in22k_AP55.pth',
            'cmr_large_3x_in22k_AP559.pth',
        ),
        f'{_HUB}/segmentation': (
            'upernet_revcol_tiny_fp16_512x512_160k_ade20k.pth',
            'upernet_revcol_small_fp16_512x512_160k_ade20k.pth',
            'upernet_revcol_base_512x512_160k_ade20k.pth',
            'upernet_revcol_base_640x640_160k_ade20k.pth',
            'upernet_revcol_large_fp16_640x640_160k_ade20k.pth',
            'upernet_revcol_huge_fp16_640x640_160k_ade20k.pth',
            'revcol_huge_k7padded.pth',
        ),
    }.items()
    for name in names
}

_CHOOSE = 'name another file with `--cfg-options model.backbone.init_cfg.checkpoint=FILE`'


def is_url(checkpoint: str) -> bool:
    """Whether ``checkpoint`` is an address to download from."""
    return urlparse(checkpoint).scheme in ('http', 'https')


def locate_checkpoint(checkpoint: str) -> Path:
    """Return the local file of a checkpoint, downloading it first if it is an address.

    Downloads go to ``torch.hub.get_dir()/checkpoints`` under their own name and are used again.
    In a distributed run one process of each file system downloads, the others wait.

    Args:
        checkpoint: A path or an ``http(s)`` address.

    Raises:
        FileNotFoundError: There is no such local file; the message says where to get it.
        IsADirectoryError: The path is a folder.
        ConnectionError: The download failed; the message says where to put the file by hand.
    """
    if is_url(checkpoint):
        return _download_once(checkpoint)
    path = Path(checkpoint).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        raise IsADirectoryError(f'The checkpoint {path.absolute()} is a folder; {_CHOOSE}.')
    if path.name in PUBLISHED:
        remedy = f'download {PUBLISHED[path.name]} to that path'
    else:
        remedy = f'put the file there (the published ones are at {_RELEASE} and {_HUB})'
    raise FileNotFoundError(
        f'The checkpoint {path.absolute()} does not exist; {remedy}, or {_CHOOSE}.'
    )


def download_verified(url: str) -> Path:
    """Return the local copy of a published file, downloaded if needed and in any case checked.

    A file of an earlier download is checked, too. Size and hash are those that the server tells, or
    that stand in the name; the log says what was checked.

    Raises:
        ConnectionError: The file could not be downloaded.
        ValueError: It is not the file that the publisher describes.
    """
    path = locate_checkpoint(url)
    expected = read_fingerprint(url)
    check_file(path, url, expected)
    checked = [name for name in ('size', 'sha256') if getattr(expected, name) is not None]
    told = f'{" and ".join(checked)} as published' if checked else 'no size or hash is published'
    print_log(f'{path}: {path.stat().st_size:,} bytes, {told}', logger='current')
    return path


def _download_once(url: str) -> Path:
    name = Path(unquote(urlparse(url).path)).name
    if not name:
        raise ValueError(f'The address {url} ends in no file name; {_CHOOSE}.')
    path = Path(torch.hub.get_dir(), 'checkpoints', name)
    # First one process of the whole run; then, where the folder is not shared between machines,
    # one process of each machine that still lacks the file.
    for is_chosen in (get_rank() == 0, os.environ.get('LOCAL_RANK', '0') == '0'):
        failure = None
        if is_chosen and not path.exists():
            try:
                download(url, path)
            except ConnectionError as error:
                failure = str(error)
        for message in all_gather_object(failure):  # also waits for the chosen process
            if message:
                raise ConnectionError(f'{message}; put the file at {path} by hand, or {_CHOOSE}.')
    return path
