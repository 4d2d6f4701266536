"""Checking a downloaded file against the size and the hash that its publisher tells."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from email.message import Message
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlparse
from urllib.request import HTTPRedirectHandler, Request, build_opener

TIMEOUT = 30  # seconds
CHUNK = 1 << 20  # bytes
# Eight digits alone are more likely a date.
_HASH_IN_NAME = re.compile(r'-(?!\d{8}\.)([0-9a-f]{8})\.\w+$')


@dataclass(frozen=True)
class Fingerprint:
    """What a publisher says about a file.

    Args:
        size: Bytes; ``None`` if unknown.
        sha256: Its hexadecimal digits, or the first of them; ``None`` if unknown.
    """

    size: int | None = None
    sha256: str | None = None


def check_file(path: Path, url: str, expected: Fingerprint) -> None:
    """Check a downloaded file against what its publisher says about it.

    Raises:
        ValueError: Its size or hash is another one.
    """
    size = path.stat().st_size
    if expected.size is not None and size != expected.size:
        raise ValueError(
            f'{path} has {size:,} bytes, but {url} has {expected.size:,}: it is damaged or another '
            'file; delete it and run again.'
        )
    if expected.sha256 is not None:
        found = sha256_of(path)
        if not found.startswith(expected.sha256):
            raise ValueError(
                f'{path} has the sha256 {found}, but {url} has {expected.sha256}: it is damaged '
                'or another file; delete it and run again.'
            )


def read_fingerprint(url: str) -> Fingerprint:
    """Find what is known of the file at an address, without downloading it.

    Hugging Face tells size and hash in the headers that redirect to its storage. Elsewhere a name
    may end in the first 8 digits of the hash, by the convention of OpenMMLab and of torch.hub.
    """
    in_name = _HASH_IN_NAME.search(urlparse(url).path)
    fingerprint = _fingerprint_of(_read_headers(url))
    return replace(fingerprint, sha256=fingerprint.sha256 or (in_name and in_name[1]))


def sha256_of(path: Path) -> str:
    """Compute the sha256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while block := file.read(CHUNK):
            digest.update(block)
    return digest.hexdigest()


def _read_headers(url: str) -> Message:
    """Return the headers of the first answer; none if the server cannot be asked."""
    opener = build_opener(_StayHere)
    try:
        with opener.open(Request(url, method='HEAD'), timeout=TIMEOUT) as response:
            return response.headers
    except HTTPError as error:
        return error.headers if 300 <= error.code < 400 else Message()
    except (OSError, HTTPException):
        return Message()


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
