#!/usr/bin/env bash
# Checks the code's style and runs the tests, in .venv, which it makes if it is missing.
# Usage: bash tools/run_tests.sh [arguments of pytest]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. tools/environment.sh
ruff check .
ruff format --check .
exec python -m pytest "$@"
