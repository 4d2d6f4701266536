#!/usr/bin/env bash
# Checks the code's style and types and runs the tests, in .venv, which it makes if it is missing.
# Usage: bash tools/run_tests.sh [--device cuda] [arguments of pytest]
# --device names where the tests compute that can do so on any device; default: cpu, with which
# GPUs are not touched.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. tools/environment.sh
if [ "${1-}" = --device ]; then
    export REVCOL_TEST_DEVICE=${2:?"error: --device needs a name, such as cuda"}
    shift 2
    python -c "import torch; torch.empty(1, device='$REVCOL_TEST_DEVICE')" 2> /dev/null || {
        echo "error: PyTorch cannot use the device '$REVCOL_TEST_DEVICE' on this machine" >&2
        exit 1
    }
fi
ruff check .
ruff format --check .
mypy
# A process for each core, each with one thread; a file's tests stay together.
export OMP_NUM_THREADS=1
exec python -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile "$@"
