#!/usr/bin/env bash
# Builds the wheel, checks its metadata, and tries it in a fresh virtual environment outside the
# checkout: the command, the configs by name, mim train and mim download. Libraries come from .venv; nothing of the
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
expect 'native' env TORCH_EXTENSIONS_DIR="$WORK/extensions" python -c "
import torch
from revcol_backbone import RevCol
model = RevCol('tiny')
model.switch_to_deploy(native=True)
model(torch.zeros(1, 3, 64, 64))"
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

# The published file comes from a server on this machine, which has a stand-in of it.
NAME=upernet_revcol_tiny_fp16_512x512_160k_ade20k.pth
mkdir server downloads
echo 'stand-in' > "server/$NAME"
python -u -m http.server --directory server --bind 127.0.0.1 0 > server.log 2>&1 &
SERVER=$!
trap 'kill $SERVER; rm -rf "$WORK"' EXIT
until PORT=$(grep -oE 'port [0-9]+' server.log); do sleep 0.1; done
sed -i "s|https://.*/$NAME|http://127.0.0.1:${PORT#port }/$NAME|" \
    "$(dirname "$(revcol config revcol_t_upernet)")/metafile.yml"
expect 'Successfully dumped revcol_t_upernet.py' \
    python -m mim download revcol_backbone --config revcol_t_upernet --dest downloads
cmp "server/$NAME" "downloads/$NAME"

# Both configs are read, and then their data sets are missing.
reject 'ADEChallengeData2016' python -m mim train revcol_backbone revcol_t_upernet.py --gpus 0
reject 'instances_train2017.json' python -m mim train mmdet mine.py --gpus 0
