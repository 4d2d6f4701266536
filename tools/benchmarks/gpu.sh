#!/usr/bin/env bash
# Writes every table and plot of the docs that a GPU decides, in at most ten minutes on one card.
# Usage: bash tools/benchmarks/gpu.sh [--device cuda] [--small] [--out FOLDER]
# --small runs all of it at toy sizes, as a check of the scripts on a machine without a GPU:
#     bash tools/benchmarks/gpu.sh --device cpu --small
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
[ -n "${VIRTUAL_ENV-}" ] || . tools/environment.sh
device=cuda small= out=work_dirs/gpu
while [ $# -gt 0 ]; do
    case $1 in
        --device) device=${2:?'error: --device needs a name'}; shift ;;
        --small) small=1 ;;
        --out) out=${2:?'error: --out needs a folder'}; shift ;;
        *) echo "error: unknown argument '$1'; allowed: --device, --small, --out" >&2; exit 2 ;;
    esac
    shift
done
name=$(python - "$device" << 'PYTHON'
import platform, sys, torch
device = torch.device(sys.argv[1])
torch.empty(1, device=device)
is_gpu = device.type == 'cuda'
print(torch.cuda.get_device_name(device) if is_gpu else platform.processor() or device.type)
PYTHON
) || {
    echo "error: PyTorch cannot use the device '$device' on this machine" >&2
    exit 1
}
mkdir -p "$out"

# write NAME COMMAND...: runs a benchmark, shows what it prints, and keeps it as NAME.md.
write() {
    local file=$out/$1.md
    shift
    printf '\n%s\n' "$*"
    { printf '%s, `%s`:\n\n' "$name" "$*"; "$@"; } | tee "$file.part"
    mv "$file.part" "$file"
}

benchmarks=tools/benchmarks
if [ -z "$small" ]; then
    memory=(--size 800 1344 --rounds 5)
    peers=(--train-shape 1 800 1344 --infer-shape 2 800 1344)
    backbone=(--shape 800 1344)
    involution=() ic=() whole=()
else
    memory=(--size 64 64 --rounds 1 --columns 2 4 --channels 8 16 32 64 --layers 1 1 1 1)
    peers=(--train-shape 1 64 64 --infer-shape 1 64 64 --rounds 1)
    backbone=(--shape 64 64 --rounds 1 --warmup 1 --no-compile)
    involution=(--sizes 1x32x14x14x7x1 --rounds 1)
    ic=(--sizes 1x16x14x14x16x3x1 --rounds 1)
    whole=(--shape 64 64 --rounds 1 --warmup 1)
fi
write memory python $benchmarks/memory.py --device "$device" --out "$out/memory" "${memory[@]}"
write peers_tiny python $benchmarks/peers.py --device "$device" "${peers[@]}"
write peers_small python $benchmarks/peers.py --arch small --device "$device" "${peers[@]}"
write backbone python $benchmarks/backbone.py --device "$device" "${backbone[@]}"
write involution python $benchmarks/involution.py --device "$device" ${involution[@]+"${involution[@]}"}
write ic python $benchmarks/ic.py --device "$device" ${ic[@]+"${ic[@]}"}
for config in seg_configs/revcol_t_upernet.py det_configs/revcol_t_cascade.py; do
    write "$(basename "$config" .py)" python $benchmarks/speed.py "$config" --device "$device" \
        --compare-dtype bfloat16 ${whole[@]+"${whole[@]}"}
done
printf '\nWritten: %s\n' "$out"
