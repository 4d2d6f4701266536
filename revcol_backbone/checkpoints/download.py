"""Downloading a file so that an interrupted download resumes and a part is never used."""

from __future__ import annotations

import http.client
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from mmengine.logging import print_log

from revcol_backbone.checkpoints.verify import check_file, read_fingerprint

TIMEOUT = 60  # seconds without a single byte
CHUNK = 1 << 20  # bytes


def download(url: str, target: Path) -> None:
    """Download ``url`` to ``target``, resuming an earlier attempt.

    The bytes go to ``<target>.part``, which gets its final name once it is complete and agrees with
    the size and the hash that the publisher tells. A process that downloads the same file at the
    same time waits for the first one.

    Args:
        url: An ``http`` or ``https`` address.
        target: The file to make; its folder is made if needed, and nothing is done if it exists.

    Raises:
        ConnectionError: The file could not be downloaded, or is not the one that the publisher
            describes; the message has the address and reason.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f'{target.name}.part')
    try:
        with partial.open('ab') as file, _locked(file):
            if target.exists():
                return
            _fetch(url, file)
            file.flush()
            _check(partial, url)
            os.fsync(file.fileno())
            os.replace(partial, target)
    except (OSError, http.client.HTTPException) as error:
        raise ConnectionError(
            f'{url} could not be downloaded: {getattr(error, "reason", None) or error}'
        ) from error
    finally:
        with suppress(FileNotFoundError):
            if partial.stat().st_size == 0:
                partial.unlink()


def _check(partial: Path, url: str) -> None:
    """Check what arrived; what is wrong is deleted, so that the next attempt starts anew."""
    try:
        check_file(partial, url, read_fingerprint(url))
    except ValueError as error:
        partial.unlink()
        raise ConnectionError(f'{error}'.replace('delete it and run again', 'run again')) from None


def _fetch(url: str, file: BinaryIO) -> None:
    """Append to ``file`` what it lacks of ``url``."""
    start = file.seek(0, os.SEEK_END)
    headers = {'User-Agent': 'revcol-backbone'} | ({'Range': f'bytes={start}-'} if start else {})
    try:
        response = urlopen(Request(url, headers=headers), timeout=TIMEOUT)
    except HTTPError as error:
        if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE or not start:
            raise OSError(f'the server answers {error.code} {error.reason}') from error
        if error.headers.get('Content-Range') != f'bytes */{start}':
            _empty(file)  # what is there is no beginning of this file
            _fetch(url, file)
        return
    with response:
        if not response.headers.get('Content-Range', '').startswith(f'bytes {start}-'):
            _empty(file)  # the server sends the file from its first byte
            start = 0
        length = response.headers.get('Content-Length')
        _append(response, file, start + int(length) if length else None)


def _append(response: http.client.HTTPResponse, file: BinaryIO, total: int | None) -> None:
    start = file.tell()
    size = f'{total / 1e6:.1f} MB' if total else 'unknown size'
    print_log(f'downloading {response.url} ({size}) to {file.name}', logger='current')
    tenths = 10 * start // total if total else 0
    while chunk := response.read(CHUNK):
        file.write(chunk)
        if total and total > 100 * CHUNK and 10 * file.tell() // total > tenths:
            tenths = 10 * file.tell() // total
            print_log(f'{tenths}0% of {size}', logger='current')
    if total and file.tell() != total:
        raise OSError(
            f'the connection ended after {file.tell()} of {total} bytes; run again to resume'
        )


def _empty(file: BinaryIO) -> None:
    file.truncate(0)
    file.seek(0)


@contextmanager
def _locked(file: BinaryIO) -> Iterator[None]:
    """Hold ``file`` for this process alone, where the system can do that."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    fcntl.flock(file, fcntl.LOCK_EX)
    yield  # closing the file lets go of it
