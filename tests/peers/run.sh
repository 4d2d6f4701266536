#!/usr/bin/env bash
# Other projects' code against this one. `mmcv` compares the operators beside mmcv-lite with mmcv's
# own kernels, which needs a C++ compiler. `timm` runs timm's own tests on our models: those of
# timm_passing.txt have to pass. Both take the project's source distribution from the package index,
# checked by its hash.
# Usage: bash tests/peers/run.sh [mmcv | timm]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
. tools/environment.sh
export OMP_NUM_THREADS=1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# Download and unpack a source distribution: name, version, sha256, further options of pip. pip does
# not build it, but asks it for its name.
unpack() {
    echo "$1==$2 --hash=sha256:$3" > "$folder/requirement.txt"
    python -m pip download --quiet --no-deps --no-binary "$1" "${@:4}" \
        --require-hashes --requirement "$folder/requirement.txt" --dest "$folder"
    tar -xzf "$folder/$1-$2.tar.gz" -C "$folder"
}

compare_mmcv() {
    command -v g++ > /dev/null || stop "a C++ compiler is needed: install g++."
    # Its set-up needs pkg_resources, which the environment's setuptools has and the newest has not.
    unpack mmcv 2.1.0 d387bcab66b467479b6660310e23746cfc79c6e57acf04094680adb499a5cd3f \
        --no-build-isolation
    MMCV_SOURCE="$folder/mmcv-2.1.0" python -m pytest -q tests/peers/compare_mmcv.py
}

test_timm() {
    unpack timm 1.0.31 baa0b333339c46d3d6d4965d99b69f5053afed71210e8f433d7ea5ee6a18f0ec
    # Alone in a folder: the name of timm's own, tests, is that of this project's.
    mkdir "$folder/timm"
    cp "$folder/timm-1.0.31/tests/test_models.py" "$folder/timm"
    PYTHONPATH=. python -m pytest -q -W ignore -p tests.peers.timm_models --noconftest \
        -c /dev/null --rootdir "$folder/timm" "$folder/timm/test_models.py"
}

case "${1:-all}" in
    mmcv) compare_mmcv ;;
    timm) test_timm ;;
    all)
        compare_mmcv
        test_timm
        ;;
    *)
        echo "error: give mmcv or timm, not '$1'" >&2
        exit 2
        ;;
esac
