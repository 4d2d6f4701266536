"""Fetching a published file and checking it against what its server says about it."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from mmengine.logging import print_log

from revcol_backbone.checkpoints.sources import locate_checkpoint

TIMEOUT = 30  # seconds
CHUNK = 1 << 20  # bytes


@dataclass(frozen=True)
class Fingerprint:
    """What a server says about a file before it redirects to its storage.

    Args:
        size: Bytes; ``None`` if it does not say.
        sha256: Hexadecimal digits; ``None`` if it does not say.
    """

    size: int | None = None
    sha256: str | None = None


def fetch_published(url: str) -> Path:
    """Return the local copy of a published file, downloaded whole and checked.

    An interrupted download goes on where it stopped when this is called again. Size and hash are
    checked where the server tells them, for a file that was there before, too.

    Raises:
        ConnectionError: The file could not be downloaded.
        ValueError: It is not the file that the server describes.
    """
    fingerprint = read_fingerprint(url)
    path = locate_checkpoint(url)
    size = path.stat().st_size
    remedy = 'delete it and run again'
    if fingerprint.size is not None and size != fingerprint.size:
        raise ValueError(
            f'{path} has {size:,} bytes, but {url} has {fingerprint.size:,}: it is damaged or '
            f'another file; {remedy}.'
        )
    if fingerprint.sha256 is not None:
        found = _sha256(path)
        if found != fingerprint.sha256:
            raise ValueError(
                f'{path} has the sha256 {found}, but {url} has {fingerprint.sha256}: it is damaged '
                f'or another file; {remedy}.'
            )
    checked = ' and '.join(
        name for name in ('size', 'sha256') if getattr(fingerprint, name) is not None
    )
    told = f'{checked} are as published' if checked else 'the server tells no size and no hash'
    print_log(f'{path}: {size:,} bytes, {told}', logger='current')
    return path


def read_fingerprint(url: str) -> Fingerprint:
    """Ask a server for size and hash of a file; one that cannot be asked tells nothing."""
    opener = build_opener(_StayHere)
    try:
        with opener.open(Request(url, method='HEAD'), timeout=TIMEOUT) as response:
            headers = response.headers
    except HTTPError as error:
        if not 300 <= error.code < 400:
            return Fingerprint()
        headers = error.headers
    except (URLError, OSError):
        return Fingerprint()
    return _fingerprint_of(headers)


class _StayHere(HTTPRedirectHandler):
    """Hugging Face describes a large file in the answer that redirects to its storage."""

    def redirect_request(self, *args: object) -> None:
        """Follow nothing."""


def _fingerprint_of(headers: Message) -> Fingerprint:
    size = headers.get('X-Linked-Size', '')
    digest = headers.get('X-Linked-ETag', '').strip('"')
    return Fingerprint(
        size=int(size) if size.isdigit() else None,
        sha256=digest if re.fullmatch('[0-9a-f]{64}', digest) else None,
    )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while block := file.read(CHUNK):
            digest.update(block)
    return digest.hexdigest()
