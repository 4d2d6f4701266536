#!/usr/bin/env bash
# From a fresh clone to a trained and tested RevCol detector and segmentor on a CPU:
# makes .venv, makes data/digits, trains and tests a Cascade Mask R-CNN and a UPerNet with
# `mim train` and `mim test`, and shows the figures and pictures of both.
# Run again after an interruption, it resumes; finished stages are kept.
# Usage: bash tools/quickstart.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. tools/environment.sh

WORK_DIR=work_dirs/quickstart
DATA_DIR=data/digits
# Threads that sleep while they wait cost little on idle cores, and save much on busy ones.
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-PASSIVE}
# Two trainings side by side, each on half of the cores, use them better than one after the other.
CORES=$(python -c 'import os; print(len(os.sched_getaffinity(0)))')
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((CORES < 4 ? 1 : CORES < 8 ? CORES / 2 : 4))}

main() {
    mkdir -p "$WORK_DIR"
    timed data python tools/make_digits_dataset.py --out "$DATA_DIR"
    for split in train val; do
        python tools/check_dataset.py coco-format \
            "$DATA_DIR/annotations/instances_$split.json" "$DATA_DIR/images/$split"
        python tools/check_dataset.py label-maps \
            "$DATA_DIR/images/$split" "$DATA_DIR/annotations/$split" --classes 11
    done
    check_made_from "$WORK_DIR/cascade" det_configs/quickstart_cascade.py
    check_made_from "$WORK_DIR/upernet" seg_configs/quickstart_upernet.py
    stage=training stage_start=$SECONDS
    set -m  # a process group for each of the two, so that the whole of one can be ended
    train_and_test mmdet cascade det_configs/quickstart_cascade.py \
        --out "$WORK_DIR/cascade/test/predictions.pkl" &
    local detector=$!
    train_and_test mmseg upernet seg_configs/quickstart_upernet.py \
        --out "$WORK_DIR/upernet/test/label_maps" &
    local segmentor=$!
    set +m
    follow "$detector" "$segmentor"
    record_seconds
    python tools/show_quickstart.py --work-dir "$WORK_DIR" --data "$DATA_DIR"
}

# train_and_test PACKAGE NAME CONFIG [ARGUMENTS OF mim test]
train_and_test() {
    local package=$1 name=$2 config=$3
    local work_dir=$WORK_DIR/$name log=$WORK_DIR/$name.log
    shift 3
    if [ -f "$work_dir/trained" ]; then
        echo "$name: trained already"
    else
        mim train "$package" "$config" --gpus 0 --work-dir "$work_dir" --resume >> "$log" 2>&1
        touch "$work_dir/trained"
    fi
    if [ -f "$work_dir/tested" ]; then
        echo "$name: tested already"
    else
        mim test "$package" "$config" --gpus 0 --work-dir "$work_dir/test" \
            --checkpoint "$(cat "$work_dir/last_checkpoint")" "$@" >> "$log" 2>&1
        touch "$work_dir/tested"
    fi
}

# follow DETECTOR SEGMENTOR: reports the progress of both processes until both have ended; when one
# fails, shows the end of its log and stops, which ends the other.
follow() {
    local running=1 next_report=$((SECONDS + 30))
    echo "Training; the full output goes to $WORK_DIR/cascade.log and $WORK_DIR/upernet.log"
    while (( running )); do
        sleep 1
        running=0
        if is_running cascade "$1"; then running=1; fi
        if is_running upernet "$2"; then running=1; fi
        (( SECONDS >= next_report )) || continue
        next_report=$((SECONDS + 30))
        report_progress
    done
}

# is_running NAME PROCESS: stops everything if the process has failed.
is_running() {
    ! kill -0 "$2" 2> /dev/null || return 0
    ! wait "$2" || return 1
    tail -n 20 "$WORK_DIR/$1.log" >&2 || true
    stop "training or testing $1 failed: the lines above, from $WORK_DIR/$1.log, say why." \
        'The other one is stopped too; run this again to resume.'
}

report_progress() {
    grep -hoE '(Epoch|Iter)\((train|test)\).*' "$WORK_DIR"/*.log 2> /dev/null |
        grep -oE '^.* loss: [0-9.]+' |
        awk '{ last[$1] = $0 } END { for (k in last) print last[k] }' || true
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

end() {
    record_seconds
    local group
    for group in $(jobs -p); do
        kill -- "-$group" 2> /dev/null || true
    done
    wait
}

trap end EXIT
main
