"""Serving the page on this machine, and to nobody else unless asked."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable

import gradio as gr

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
        build: Makes the page; called when its folder for images, which is deleted at the end,
            exists.
        host: Address to listen on; ``'127.0.0.1'`` is for this machine only.
        port: Port to listen on; ``None`` takes the first free one from 7860.
        max_upload: Largest image to take, in MB.

    Raises:
        OSError: The address or port cannot be used.
    """
    os.environ['GRADIO_ANALYTICS_ENABLED'] = 'False'
    _reach_directly(host)
    # Without a handler, SIGTERM would leave the folder behind.
    previous = signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    with tempfile.TemporaryDirectory(prefix='revcol_demo_') as folder:
        os.environ['GRADIO_TEMP_DIR'] = folder
        page = build()
        try:
            _launch(page, host, port, max_upload)
            print(f'The demo runs at {page.local_url} until Ctrl+C is pressed.', flush=True)
            threading.Event().wait()
        except KeyboardInterrupt:
            print('stopped')
        finally:
            page.close(verbose=False)
            signal.signal(signal.SIGTERM, previous)


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
        where = f'{host}, port {port or "7860 and those after it"}'
        raise OSError(f'{where} cannot be listened on; give another --port or --host.') from error


def _reach_directly(host: str) -> None:
    """Keep a configured proxy out of the way: Gradio asks its own server whether it has started."""
    for name in ('no_proxy', 'NO_PROXY'):
        hosts = [*filter(None, os.environ.get(name, '').split(',')), 'localhost', '127.0.0.1', host]
        os.environ[name] = ','.join(dict.fromkeys(hosts))
