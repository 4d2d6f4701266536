#!/usr/bin/env bash
# Builds the documentation site into docs/_build, with the API reference from the docstrings; fails on
# any warning, such as a link to a page, heading or file that does not exist. With the argument
# `linkcheck` it asks for every external address of the site and of the Markdown files beside README.md
# instead, which needs the network, and fails if one does not answer.
# Usage: bash tools/build_docs.sh [linkcheck]
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
export PYTHONPATH=$PWD
if [ "${1:-}" = linkcheck ]; then
    # Links from the root's files are wrong in this folder, and tests/test_links.py checks them.
    cp -r docs "$WORK/source"
    for file in *.md; do
        cp "$file" "$WORK/source/root_$file"
    done
    exec "$WORK/venv/bin/python" -m sphinx -q -b linkcheck \
        -D suppress_warnings=myst.xref_missing,toc.not_included "$WORK/source" docs/_build/linkcheck
fi
"$WORK/venv/bin/python" -m sphinx -W --keep-going -b html docs docs/_build
echo 'The site is docs/_build/index.html'
