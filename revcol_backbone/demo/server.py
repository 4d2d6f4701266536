"""Serving the page on this machine only, unless asked otherwise."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import gradio as gr

from revcol_backbone.demo.folder import private_folder

BYTES_PER_MEGABYTE = 1_000_000
_THEME = dict(
    primary_hue='teal',
    neutral_hue='slate',
    # Fonts of the system, so that nothing is fetched.
    font=['system-ui', 'sans-serif'],
    font_mono=['ui-monospace', 'monospace'],
)
_CSS = """
h1 { font-size: 1.5rem; font-weight: 600; margin: 0; }
#image img { width: 100%; height: 100%; object-fit: contain; }
.chips { display: flex; flex-wrap: wrap; gap: 6px; margin-top: 6px; }
.chip { border: 1px solid var(--border-color-primary); border-radius: 12px; padding: 1px 10px; }
.chip i { display: inline-block; width: 12px; height: 12px; border-radius: 3px; }
.chip i { margin-right: 6px; }
.problem { color: var(--error-text-color, #b91c1c); font-weight: 600; }
"""


def serve(build: Callable[[], gr.Blocks], host: str, port: int | None, max_upload: float) -> None:
    """Serve a page until the process is interrupted or terminated.

    Args:
        build: Builds the page; called when the folder for its images exists.
        host: Address to listen on; ``'127.0.0.1'`` is for this machine only.
        port: Port to listen on; ``None`` takes the first free one from 7860.
        max_upload: Size limit of an uploaded image in MB.

    Raises:
        OSError: The address or port cannot be used.
    """
    _check_address(host, port)
    os.environ['GRADIO_ANALYTICS_ENABLED'] = 'False'
    _reach_directly(host)
    with _exit_on_signals(), private_folder() as folder:
        os.environ['GRADIO_TEMP_DIR'] = str(folder)
        page = build()
        try:
            _launch(page, host, port, max_upload)
            print(f'The demo runs at {page.local_url} until Ctrl+C is pressed.', flush=True)
            threading.Event().wait()
        except KeyboardInterrupt:
            print('stopped')
        finally:
            page.close(verbose=False)


@contextmanager
def _exit_on_signals() -> Iterator[None]:
    """Turn signals that end a process at once into an exit that deletes the folder."""
    # `nohup` lets a command ignore that its terminal was closed.
    chosen = [s for s in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(s) != signal.SIG_IGN]
    previous = {number: signal.signal(number, lambda *_: sys.exit()) for number in chosen}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _check_address(host: str, port: int | None) -> None:
    """Check that an address can be used before Gradio, which tries an unknown one for ever."""
    try:
        if host.replace('.', '').isdecimal():
            ipaddress.ip_address(host)
        family = socket.AF_INET6 if ':' in host else socket.AF_INET
        socket.create_server((host, port or 0), family=family).close()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise _unusable(host, port, reason) from error


def _unusable(host: str, port: int | None, reason: object) -> OSError:
    where = f'{host}, port {port or "7860 and those after it"}'
    return OSError(f'{where} cannot be listened on ({reason}); give another --port or --host.')


def _launch(page: gr.Blocks, host: str, port: int | None, max_upload: float) -> None:
    try:
        page.launch(
            server_name=host,
            server_port=port,
            share=False,
            max_file_size=int(max_upload * BYTES_PER_MEGABYTE),
            prevent_thread_lock=True,
            inbrowser=False,
            quiet=True,
            footer_links=[],
            run_history=False,
            enable_monitoring=False,
            mcp_server=False,
            pwa=False,
            ssr_mode=False,
            theme=gr.themes.Soft(**_THEME),
            css=_CSS,
        )
    except OSError as error:
        raise _unusable(host, port, 'all are in use') from error


def _reach_directly(host: str) -> None:
    """Bypass a configured proxy: Gradio asks its own server whether it has started."""
    for name in ('no_proxy', 'NO_PROXY'):
        hosts = [*filter(None, os.environ.get(name, '').split(',')), 'localhost', '127.0.0.1', host]
        os.environ[name] = ','.join(dict.fromkeys(hosts))
