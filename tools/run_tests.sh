#!/usr/bin/env bash
# Checks the code's style and types and runs the tests, in .venv, which it makes if it is missing.
# Usage: bash tools/run_tests.sh [arguments of pytest]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. tools/environment.sh
ruff check .
ruff format --check .
mypy
# A process for each core, each with one thread; a file's tests stay together.
export OMP_NUM_THREADS=1
exec python -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile "$@"
