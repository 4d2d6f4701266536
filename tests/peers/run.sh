#!/usr/bin/env bash
# Other projects' code against this one: `mmcv` compares the operators beside mmcv-lite with mmcv's
# own kernels. Takes its source distribution from the package index, checked by its hash, and needs
# a C++ compiler.
# Usage: bash tests/peers/run.sh mmcv
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
. tools/environment.sh
export OMP_NUM_THREADS=1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# Download and unpack a source distribution: name, version, sha256.
unpack() {
    echo "$1==$2 --hash=sha256:$3" > "$folder/requirement.txt"
    # mmcv's own set-up needs what the environment has; it is not built, only asked for its name.
    python -m pip download --quiet --no-deps --no-build-isolation --no-binary "$1" \
        --require-hashes --requirement "$folder/requirement.txt" --dest "$folder"
    tar -xzf "$folder/$1-$2.tar.gz" -C "$folder"
}

compare_mmcv() {
    unpack mmcv 2.1.0 d387bcab66b467479b6660310e23746cfc79c6e57acf04094680adb499a5cd3f
    MMCV_SOURCE="$folder/mmcv-2.1.0" python -m pytest -q tests/peers/compare_mmcv.py
}

case "${1:-}" in
    mmcv) compare_mmcv ;;
    *)
        echo "error: give mmcv, not '${1:-}'" >&2
        exit 2
        ;;
esac
