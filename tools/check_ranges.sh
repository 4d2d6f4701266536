#!/usr/bin/env bash
# Asks pip what it would install without constraints.txt, and fails if the ranges of setup.cfg let it
# take a version that mmdet or mmsegmentation refuses at import.
# Usage: bash tools/check_ranges.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. tools/environment.sh
REPORT=$(mktemp)
trap 'rm -f "$REPORT"' EXIT
python -m pip install --dry-run --ignore-installed --quiet --report "$REPORT" '.[det,seg,mim,mmcv-lite]'
python - "$REPORT" << 'PYTHON'
import json
import sys

from packaging.version import Version

chosen = {
    entry['metadata']['name'].lower(): entry['metadata']['version']
    for entry in json.load(open(sys.argv[1]))['install']
}
# What mmdet 3.3.0 and mmsegmentation 1.2.2 assert at import (their __init__.py).
limits = {'mmcv-lite': ('2.0.0rc4', '2.2.0'), 'mmengine': ('0.7.1', '1.0.0')}
for name, (lowest, limit) in limits.items():
    if not Version(lowest) <= Version(chosen[name]) < Version(limit):
        sys.exit(f'error: pip takes {name} {chosen[name]}; mmdet needs >={lowest}, <{limit}')
names = ('torch', 'mmengine', 'mmcv-lite', 'mmdet', 'mmsegmentation', 'openmim', 'setuptools')
print('without constraints pip takes', ', '.join(f'{name} {chosen[name]}' for name in names))
PYTHON
