#!/usr/bin/env bash
# Tests the Detectron2 integration against a repack of Detectron2 in .d2, which it makes: the tests;
# trainings on data/digits by Detectron2's own script, 600 iterations of a detector, which must reach
# the figures below, and 300 of a segmentor; and the trained detector in MMDetection, whose AP must be
# the same. What was trained goes to work_dirs/detectron2.
# Usage: bash tools/test_detectron2.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. tools/environment.sh

BOX_AP=0.45
MASK_AP=0.28
# The libraries average the scores of a cascade's stages in different ways.
AP_DIFFERENCE=0.005
WORK_DIR=work_dirs/detectron2
DETECTRON2='sal-detectron2==0.7.2
    --hash=sha256:491af0c7f79bdb2d178e46f6cb16a97c4ac968d45c41ea3f6b6435d59bbee561'

make_d2() {
    local install=(python -m pip install --quiet --no-deps --require-hashes --target .d2)
    rm -rf .d2
    mkdir .d2
    echo $DETECTRON2 > .d2/requirements.txt
    # The wheel says Python 3.10, but what is used of it is pure Python.
    "${install[@]}" --only-binary=:all: --python-version 3.10 --requirement .d2/requirements.txt
    # Three are source distributions, which the environment's own setuptools builds.
    "${install[@]}" --no-build-isolation --upgrade \
        --requirement tests/integrations/detectron2/requirements.txt
    # A package named tools would hide this project's.
    mv .d2/tools .d2/trainers
    touch .d2/complete
}

# train KIND NAME: trains and tests KIND_configs/detectron2/quickstart_NAME.py.
train() {
    local log=$WORK_DIR/$2.log
    python .d2/trainers/lazyconfig_train_net.py --num-gpus 0 \
        --config-file "$1_configs/detectron2/quickstart_$2.py" \
        "train.output_dir=$WORK_DIR/$2" train.seed=0 > "$log" 2>&1 || {
        tail -n 20 "$log" >&2
        stop "training $2 failed: the lines above, from $log, say why."
    }
    echo "trained $2"
}

test_in_openmmlab() {
    local moved=$WORK_DIR/moved.pth log=$WORK_DIR/openmmlab.log
    python tools/convert_checkpoint.py "$WORK_DIR/cascade/model_final.pth" "$moved" \
        --from detectron2 --overwrite
    mim test mmdet det_configs/quickstart_cascade.py --gpus 0 --work-dir "$WORK_DIR/openmmlab" \
        --checkpoint "$moved" --cfg-options model.test_cfg.rcnn.max_per_img=100 > "$log" 2>&1 || {
        tail -n 20 "$log" >&2
        stop 'the detector that was moved to MMDetection could not be tested.'
    }
}

# Reads Detectron2's logs, in percent, and MMDetection's.
check_figures() {
    python - "$WORK_DIR" $BOX_AP $MASK_AP $AP_DIFFERENCE << 'PYTHON'
import re
import sys
from pathlib import Path

folder, (box, mask, difference) = Path(sys.argv[1]), map(float, sys.argv[2:])
cascade, segmentor, moved = (
    (folder / f'{name}.log').read_text() for name in ('cascade', 'semantic_fpn', 'openmmlab')
)
pattern = r'copypaste: Task: (\w+)\n.*\n.*copypaste: ([\d.]+)'
own = {task: float(percent) / 100 for task, percent in re.findall(pattern, cascade + segmentor)}
other = {task: float(ap) for task, ap in re.findall(r'coco/(\w+)_mAP: ([\d.]+)', moved)}
print(f'Detectron2: box AP {own["bbox"]:.3f}, mask AP {own["segm"]:.3f}, mIoU {own["sem_seg"]:.3f}')
print(f'moved to MMDetection: box AP {other["bbox"]:.3f}, mask AP {other["segm"]:.3f}')
if own['bbox'] < box or own['segm'] < mask:
    sys.exit(f'error: box AP {box} and mask AP {mask} were to be reached')
if any(abs(own[task] - other[task]) > difference for task in ('bbox', 'segm')):
    sys.exit(f'error: the AP of both libraries differ by more than {difference}')
PYTHON
}

[ -f .d2/complete ] || make_d2
export PYTHONPATH=$PWD:$PWD/.d2 OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE
python -m pytest -q tests/integrations/detectron2
python tools/make_digits_dataset.py --out data/digits
rm -rf "$WORK_DIR"
mkdir -p "$WORK_DIR"
# Side by side, each on a core of its own.
train seg semantic_fpn &
segmentor=$!
train det cascade
wait $segmentor
test_in_openmmlab
check_figures
