#!/usr/bin/env bash
# Tests the Detectron2 integration against a repack of Detectron2 in .d2, which it makes: the tests,
# then, where data/digits exists, a training of 600 iterations by Detectron2's own script,
# whose box and mask AP must reach 0.45 and 0.28.
# Usage: bash tools/test_detectron2.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. tools/environment.sh

PACKAGES=(fvcore==0.1.5.post20221221 iopath==0.1.10 omegaconf==2.3.1 hydra-core==1.3.8 yacs==0.1.8
    antlr4-python3-runtime==4.9.3 portalocker==3.2.0)
SHA256=491af0c7f79bdb2d178e46f6cb16a97c4ac968d45c41ea3f6b6435d59bbee561

make_d2() {
    rm -rf .d2
    # The wheel says Python 3.10, but what is used of it is pure Python.
    python -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.10 \
        --dest .d2/wheels sal-detectron2==0.7.2
    echo "$SHA256  $(ls .d2/wheels/*.whl)" | sha256sum --check --quiet
    python -m pip install --quiet --no-deps --only-binary=:all: --python-version 3.10 \
        --target .d2 .d2/wheels/*.whl
    python -m pip install --quiet --no-deps --target .d2 "${PACKAGES[@]}"
    # A package named tools would hide this project's.
    mv .d2/tools .d2/trainers
    touch .d2/complete
}

train() {
    python .d2/trainers/lazyconfig_train_net.py --num-gpus 0 \
        --config-file det_configs/detectron2/quickstart_cascade.py "$@"
}

[ -f .d2/complete ] || make_d2
export PYTHONPATH=$PWD:$PWD/.d2 OMP_NUM_THREADS=${OMP_NUM_THREADS:-2}
python -m pytest -q tests/integrations/detectron2
[ -f data/digits/dataset.json ] || {
    echo 'not trained: data/digits is missing; `bash tools/quickstart.sh` makes it.'
    exit 0
}
OUT=work_dirs/detectron2
rm -rf "$OUT"
train train.output_dir="$OUT" 2>&1 | tee "$OUT.log" | grep -E 'eta:|copypaste'
python - "$OUT.log" << 'PYTHON'
import re, sys

text = open(sys.argv[1]).read()
found = re.findall(r'copypaste: Task: (\w+)\n.*\n.*copypaste: ([\d.]+),', text)
figures = {task: float(figure) / 100 for task, figure in found}
print(f'box AP {figures["bbox"]:.3f}, mask AP {figures["segm"]:.3f}')
sys.exit(figures['bbox'] < 0.45 or figures['segm'] < 0.28)
PYTHON
