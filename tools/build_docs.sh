#!/usr/bin/env bash
# Builds the documentation site into docs/_build, with the API reference from the docstrings; fails on
# any warning, such as a link to a page, heading or file that does not exist.
# Usage: bash tools/build_docs.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. tools/environment.sh
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT

# Sphinx needs newer packages than the tested set holds: it gets an environment that sees both.
LIBRARIES=$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
python -m venv "$WORK/venv"
"$WORK/venv/bin/python" -m pip install --quiet sphinx myst-parser sphinx-rtd-theme
echo "$LIBRARIES" > "$(echo "$WORK"/venv/lib/python*/site-packages)/libraries.pth"
PYTHONPATH=$PWD "$WORK/venv/bin/python" -m sphinx -W --keep-going -b html docs docs/_build
echo 'The site is docs/_build/index.html'
