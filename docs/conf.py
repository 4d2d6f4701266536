"""Settings of the documentation site: ``bash tools/build_docs.sh``."""

from revcol_backbone.version import __version__

project = 'RevCol for detection and segmentation'
author = 'the RevCol downstream suite developers'
release = version = __version__

extensions = ['myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon', 'sphinx.ext.viewcode']
exclude_patterns = ['_build']
html_theme = 'sphinx_rtd_theme'
# Headings can be linked to as on GitHub, and so can files of the repository.
myst_heading_anchors = 3
# Code blocks in the guides that show output or a fragment are in no language.
suppress_warnings = ['misc.highlighting_failure']
# For `bash tools/build_docs.sh linkcheck`: the demo's own address, and headings that GitHub's pages
# make in the browser.
linkcheck_ignore = [r'http://127\.0\.0\.1']
linkcheck_anchors = False
autodoc_member_order = 'bysource'
autodoc_typehints = 'description'
napoleon_use_ivar = True
