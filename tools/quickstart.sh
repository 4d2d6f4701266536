#!/usr/bin/env bash
# From a fresh clone to a trained and tested RevCol detector and segmentor on a CPU:
# makes .venv, makes data/digits, trains and tests a Cascade Mask R-CNN and a UPerNet with
# `mim train` and `mim test`, and shows the figures and pictures of both.
# Run again after an interruption, it goes on where it stopped; finished stages are kept.
# Usage: bash tools/quickstart.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. tools/environment.sh

WORK_DIR=work_dirs/quickstart
DATA_DIR=data/digits
# Threads that sleep while they wait cost little on idle cores, and save much on busy ones.
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-PASSIVE}

main() {
    mkdir -p "$WORK_DIR"
    timed data python tools/make_digits_dataset.py --out "$DATA_DIR"
    # The detector starts from the segmentor's backbone, so the segmentor comes first.
    train_and_test mmseg upernet seg_configs/quickstart_upernet.py \
        --out "$WORK_DIR/upernet/test/label_maps"
    train_and_test mmdet cascade det_configs/quickstart_cascade.py \
        --out "$WORK_DIR/cascade/test/predictions.pkl"
    python tools/show_quickstart.py --work-dir "$WORK_DIR" --data "$DATA_DIR"
}

# train_and_test PACKAGE NAME CONFIG [ARGUMENTS OF mim test]
train_and_test() {
    local package=$1 name=$2 config=$3
    local work_dir=$WORK_DIR/$name
    shift 3
    check_made_from "$work_dir" "$config"
    if [ -f "$work_dir/trained" ]; then
        echo "$name: trained already"
    else
        timed "$name" mim train "$package" "$config" --gpus 0 --work-dir "$work_dir" --resume
        touch "$work_dir/trained"
    fi
    if [ -f "$work_dir/tested" ]; then
        echo "$name: tested already"
    else
        timed "$name" mim test "$package" "$config" --gpus 0 --work-dir "$work_dir/test" \
            --checkpoint "$(cat "$work_dir/last_checkpoint")" "$@"
        touch "$work_dir/tested"
    fi
}

# What was trained on other data or with another config must not pass for the present one.
check_made_from() {
    local work_dir=$1 config=$2 sum
    sum=$(cat "$config" "$DATA_DIR/dataset.json" | cksum)
    mkdir -p "$work_dir"
    [ -f "$work_dir/made_from" ] || echo "$sum" > "$work_dir/made_from"
    [ "$(cat "$work_dir/made_from")" = "$sum" ] || stop \
        "$work_dir was trained with another version of $config or of $DATA_DIR:" \
        "remove that folder to train again."
}

# timed NAME COMMAND...: adds the seconds, also of an interrupted command, to seconds.txt.
timed() {
    stage=$1
    stage_start=$SECONDS
    shift
    "$@"
    record_seconds
}

record_seconds() {
    [ -z "${stage:-}" ] || echo "$stage $((SECONDS - stage_start))" >> "$WORK_DIR/seconds.txt"
    stage=
}

trap record_seconds EXIT
main
