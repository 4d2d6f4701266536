"""A server on this machine that answers as the Hugging Face Hub does, to readers and authors."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import yaml

COMMIT = '0123456789abcdef0123456789abcdef01234567'
TOKEN = 'hf_of_the_test'
LARGE = ('.safetensors', '.bin')  # what the Hub takes as LFS objects, apart from the commit


class HubServer(ThreadingHTTPServer):
    """Serves and writes the repositories below a folder, as ``user/name/file``.

    Attributes:
        folder: The repositories.
        objects: The LFS objects that were uploaded, by their SHA-256.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(('127.0.0.1', 0), _Handler)
        self.folder = folder
        self.objects: dict[str, bytes] = {}

    @property
    def address(self) -> str:
        return f'http://127.0.0.1:{self.server_port}'

    def run_python(
        self, code: str, *arguments: str, token: str | None = TOKEN
    ) -> subprocess.CompletedProcess:
        """Run code in a process of its own: huggingface_hub reads its settings at import."""
        environment = os.environ | {
            'HF_ENDPOINT': self.address,
            'HF_HOME': str(self.folder.parent / 'cache'),
            'HF_HUB_DISABLE_TELEMETRY': '1',
            'HF_HUB_DISABLE_XET': '1',
            'NO_PROXY': '127.0.0.1',
        }
        environment.pop('HF_TOKEN', None)
        if token is not None:
            environment['HF_TOKEN'] = token
        return subprocess.run(
            [sys.executable, '-W', 'ignore', '-c', code, *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )


@contextmanager
def hub(folder: Path) -> Iterator[HubServer]:
    """Run a :class:`HubServer` for the time of a ``with`` block."""
    folder.mkdir(exist_ok=True)
    with HubServer(folder) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


class _Handler(BaseHTTPRequestHandler):
    server: HubServer

    def do_HEAD(self) -> None:  # noqa: N802, the name that http.server looks for
        self._send_file()

    def do_GET(self) -> None:  # noqa: N802
        self._send_file()

    def do_PUT(self) -> None:  # noqa: N802
        """Take an LFS object; its address is its SHA-256."""
        content = self._body()
        name = self.path.rpartition('/')[2]
        assert hashlib.sha256(content).hexdigest() == name
        self.server.objects[name] = content
        self._answer(200, {})

    def do_POST(self) -> None:  # noqa: N802
        body = self._body()
        if self.headers.get('Authorization') != f'Bearer {TOKEN}':
            self._answer(401, {'error': 'Invalid credentials'})
            return
        if self.path == '/api/repos/create':
            entry = json.loads(body)
            self._create(f'{entry["organization"]}/{entry["name"]}')
        elif self.path == '/api/validate-yaml':
            metadata = json.loads(body)['content'].split('---\n')[1]
            is_usable = isinstance(yaml.safe_load(metadata), dict)
            errors = [] if is_usable else [{'message': 'no metadata'}]
            self._answer(200 if is_usable else 400, {'errors': errors, 'warnings': []})
        elif self.path.endswith('/info/lfs/objects/batch'):
            objects = json.loads(body)['objects']
            self._answer(200, {'objects': [self._upload_action(entry) for entry in objects]})
        elif '/preupload/' in self.path:
            files = [self._upload_mode(entry['path']) for entry in json.loads(body)['files']]
            self._answer(200, {'files': files})
        else:
            repository = self.path.removeprefix('/api/models/').partition('/commit/')[0]
            self._commit(repository, [json.loads(line) for line in body.splitlines()])

    def _create(self, repository: str) -> None:
        path = self.server.folder / repository
        status = 409 if path.is_dir() else 200
        path.mkdir(parents=True, exist_ok=True)
        self._answer(status, {'url': f'{self.server.address}/{repository}'})

    def _upload_mode(self, path: str) -> dict[str, object]:
        mode = 'lfs' if path.endswith(LARGE) else 'regular'
        return {'path': path, 'uploadMode': mode, 'shouldIgnore': False}

    def _upload_action(self, entry: dict[str, object]) -> dict[str, object]:
        href = f'{self.server.address}/lfs/{entry["oid"]}'
        return {**entry, 'actions': {'upload': {'href': href}}}

    def _commit(self, repository: str, lines: list[dict]) -> None:
        for line in lines:
            value = line['value']
            if line['key'] == 'header':
                continue
            if line['key'] == 'file':
                assert value['encoding'] == 'base64'
                content = base64.b64decode(value['content'])
            else:
                content = self.server.objects[value['oid']]
            (self.server.folder / repository / value['path']).write_bytes(content)
        url = f'{self.server.address}/{repository}/commit/{COMMIT}'
        self._answer(200, {'commitUrl': url, 'commitOid': COMMIT})

    def _send_file(self) -> None:
        repository, _, name = self.path.removeprefix('/').partition('/resolve/main/')
        path = self.server.folder / repository / name
        content = path.read_bytes() if path.is_file() else b''
        self.send_response(200 if path.is_file() else 404)
        self.send_header('Content-Length', str(len(content)))
        self.send_header('X-Repo-Commit', COMMIT)
        self.send_header('ETag', f'"{hashlib.sha256(content).hexdigest()}"')
        if not path.is_file():
            found = path.parent.is_dir()
            self.send_header('X-Error-Code', 'EntryNotFound' if found else 'RepoNotFound')
        self.end_headers()
        if self.command == 'GET':
            self.wfile.write(content)

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers['Content-Length']))

    def _answer(self, status: int, content: dict[str, object]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header('Content-Type', 'application/json')
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Write nothing."""
