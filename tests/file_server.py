"""A local HTTP server for download tests, with the ways a real one fails."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer(ThreadingHTTPServer):
    """Serves one file under every name.

    Attributes:
        content: The bytes of the file.
        requests: The ``Range`` header of each request so far, ``None`` where there was none.
        breaks_after: The connection closes after so many bytes; ``None`` for never.
        supports_ranges: Whether a part of the file can be asked for.
        status: Answer with this error code and no file, if it is set.
    """

    def __init__(self, content: bytes) -> None:
        super().__init__(('127.0.0.1', 0), _Handler)
        self.content = content
        self.requests: list[str | None] = []
        self.breaks_after: int | None = None
        self.supports_ranges = True
        self.status: int | None = None

    def url(self, name: str) -> str:
        """The address of the file under ``name``."""
        return f'http://127.0.0.1:{self.server_port}/{name}'


class _Handler(BaseHTTPRequestHandler):
    server: FileServer

    def do_GET(self) -> None:  # noqa: N802, the name that http.server looks for
        server = self.server
        requested = self.headers.get('Range')
        server.requests.append(requested)
        total = len(server.content)
        start = 0
        if requested and server.supports_ranges:
            start = int(re.fullmatch(r'bytes=(\d+)-', requested)[1])
        if server.status:
            self.send_error(server.status)
        elif start >= total:
            self.send_response(416)
            self.send_header('Content-Range', f'bytes */{total}')
            self.send_header('Content-Length', '0')
            self.end_headers()
        else:
            self.send_response(206 if start else 200)
            if start:
                self.send_header('Content-Range', f'bytes {start}-{total - 1}/{total}')
            self.send_header('Content-Length', str(total - start))
            self.end_headers()
            self.wfile.write(server.content[start : server.breaks_after])

    def log_message(self, *args: object) -> None:
        """Keep the test output clean."""


@contextmanager
def serve(content: bytes) -> Iterator[FileServer]:
    """Run a :class:`FileServer` for the time of a ``with`` block."""
    server = FileServer(content)
    thread = threading.Thread(target=server.serve_forever, kwargs={'poll_interval': 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
