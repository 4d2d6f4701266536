#!/usr/bin/env bash
# Makes an environment with the maintained forks (onedl-*) in place of OpenMMLab's own packages, and
# runs the tests of the operators, configs, checkpoints and one epoch of training there.
# Usage: bash tools/check_onedl.sh [arguments of pytest]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PYTHON=${PYTHON:-python3.11}
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
TESTS='tests/mmcv_ops tests/engine/test_openmmlab_imports.py tests/checkpoints/test_safe_globals.py
    tests/test_every_config.py tests/cli/test_entry_point.py
    tests/seg_configs/test_upernet.py'

"$PYTHON" -m venv "$WORK/venv"
"$WORK/venv/bin/python" -m pip install --quiet --no-cache-dir torch torchvision \
    --editable '.[det-onedl,seg-onedl,mim-onedl]'
"$WORK/venv/bin/python" -m pip install --quiet --no-cache-dir \
    hypothesis pytest pytest-xdist safetensors scikit-learn tensorboard
export PATH=$WORK/venv/bin:$PATH OMP_NUM_THREADS=1
python -m revcol_backbone.mmcv_ops install
python tools/smoke_test.py
python -m pytest -p no:cacheprovider --numprocesses auto --dist loadfile "$@" $TESTS
