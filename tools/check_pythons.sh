#!/usr/bin/env bash
# Installs the package without constraints on every supported Python that is found, except that of
# .venv, and runs tools/smoke_test.py there. An environment takes 6 GB and is removed afterwards.
# Usage: bash tools/check_pythons.sh [PYTHON...]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. tools/environment.sh
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
OWN=$(python -c 'import platform; print(platform.python_version_tuple()[:2])')
python -m pip wheel --quiet --no-deps --wheel-dir "$WORK/dist" .
deactivate
[ $# -gt 0 ] || set -- $SUPPORTED_PYTHONS
for python in "$@"; do
    version=$("$python" -c 'import platform; print(platform.python_version_tuple()[:2])' 2> /dev/null) || {
        echo "not tested: $python is not on this machine"
        continue
    }
    [ "$version" != "$OWN" ] || continue
    "$python" -m venv "$WORK/venv"
    "$WORK/venv/bin/python" -m pip install --quiet --no-cache-dir \
        "$(echo "$WORK"/dist/*.whl)[det,seg,mim,mmcv-lite]"
    (
        cd "$WORK"
        venv/bin/python -m revcol_backbone.mmcv_ops install
        venv/bin/python "$(venv/bin/revcol config revcol_t_cascade | sed 's|det_configs/.*||')tools/smoke_test.py"
    )
    rm -rf "$WORK/venv"
done
