#!/usr/bin/env bash
# Builds the wheel, checks its metadata, and tries it in a fresh virtual environment outside the
# checkout: the command, the configs by name, mim. Libraries come from .venv; nothing of the
# checkout does.
# Usage: bash tools/check_package.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. tools/environment.sh
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT

# They need newer packages than the tested set holds.
python -m venv "$WORK/build"
"$WORK/build/bin/python" -m pip install --quiet build twine
"$WORK/build/bin/python" -m build --outdir "$WORK/dist" . > "$WORK/build.log" 2>&1 || {
    cat "$WORK/build.log"
    stop 'the package could not be built.'
}
"$WORK/build/bin/twine" check --strict "$WORK"/dist/*

LIBRARIES=$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
python -m venv "$WORK/venv"
deactivate
unset PYTHONPATH
# Of the folder named in a path file Python reads packages, but no further path files.
echo "$LIBRARIES" > "$(echo "$WORK"/venv/lib/python*/site-packages)/libraries.pth"
"$WORK/venv/bin/python" -m pip install --quiet --no-deps --force-reinstall "$WORK"/dist/*.whl
mkdir "$WORK/elsewhere"
cd "$WORK/elsewhere"
PATH=$WORK/venv/bin:$PATH
python -m revcol_backbone.mmcv_ops install

# expect TEXT COMMAND...: the output of the command has to contain the text.
expect() {
    local text=$1
    shift
    "$@" > output.txt 2>&1 || { cat output.txt; stop "'$*' failed."; }
    grep -qF -- "$text" output.txt || { cat output.txt; stop "'$*' did not print '$text'."; }
    echo "ok: $*"
}

expect "$WORK/venv/" revcol config revcol_t_cascade
expect 'refuses a file that would run a command' revcol doctor
expect 'revcol_t_upernet' revcol zoo
expect 'after one step' python "$(dirname "$(revcol config revcol_t_cascade)")/../tools/smoke_test.py"
cat > mine.py << 'CONFIG'
_base_ = 'revcol_backbone::det_configs/revcol_t_cascade.py'
model = dict(backbone=dict(anchor_every=2))
CONFIG
# reject TEXT COMMAND...: the command has to fail, and its output has to contain the text.
reject() {
    local text=$1
    shift
    ! "$@" > output.txt 2>&1 || { cat output.txt; stop "'$*' did not fail."; }
    grep -qF -- "$text" output.txt || { cat output.txt; stop "'$*' did not print '$text'."; }
    echo "ok: $* (fails as it should)"
}

# Both configs are read, and then their data sets are missing.
reject 'ADEChallengeData2016' python -m mim train revcol_backbone revcol_t_upernet.py --gpus 0
reject 'instances_train2017.json' python -m mim train mmdet mine.py --gpus 0
