"""A page in the browser for trying a trained detector or segmentor.

Importing :mod:`revcol_backbone` does not import this package, so that Gradio stays optional.
"""

from revcol_backbone.demo.page import build_page
from revcol_backbone.demo.server import serve

__all__ = ['build_page', 'serve']
