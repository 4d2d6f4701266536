# Sourced from the root of the repository: makes .venv with the tested stack and activates it.
# Does nothing when .venv was completed for the present constraints.txt, setup.cfg and
# pyproject.toml; otherwise installs what is missing, also after an interruption.
# PYTHON names the interpreter to make .venv with; default: python3.11.

ENVIRONMENT_STAMP=.venv/installed-from

stop() {
    echo "error: $*" >&2
    exit 1
}

make_venv() {
    local python=${PYTHON:-python3.11}
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null || stop \
        "'$python' is missing or older than Python 3.11, which the tested stack needs:" \
        "install Python 3.11, or name it as in 'PYTHON=/path/to/python3.11 bash $0'."
    "$python" -m venv .venv || stop \
        "'$python -m venv' failed: install the venv module of this Python (Debian: python3.11-venv)."
}

sources_digest() {
    .venv/bin/python - constraints.txt setup.cfg pyproject.toml << 'PYTHON'
import hashlib, sys
print(hashlib.sha256(b''.join(open(name, 'rb').read() for name in sys.argv[1:])).hexdigest())
PYTHON
}

# A package whose unpacking was cut off has no RECORD yet, and pip refuses to replace it.
forget_unfinished_packages() {
    local metadata
    for metadata in .venv/lib/python*/site-packages/*.dist-info; do
        [ ! -d "$metadata" ] || [ -f "$metadata/RECORD" ] || rm -r "$metadata"
    done
}

has_compiled_mmcv() {
    compgen -G '.venv/lib/python*/site-packages/mmcv/_ext.*' > /dev/null
}

install_stack() {
    local mmcv=(mmcv-lite)
    ! has_compiled_mmcv || mmcv=()
    .venv/bin/python -m pip install --constraint constraints.txt \
        torch torchvision ${mmcv[@]+"${mmcv[@]}"} --editable '.[det,seg,cls,mim,timm,export,demo,test]' &&
    .venv/bin/python -m revcol_backbone.mmcv_ops install
}

[ -f setup.cfg ] || stop "tools/environment.sh has to be sourced from the root of the repository."
.venv/bin/python -m pip --version > /dev/null 2>&1 || make_venv
if [ "$(cat "$ENVIRONMENT_STAMP" 2> /dev/null)" != "$(sources_digest)" ]; then
    echo 'Installing the stack into .venv (several minutes and about 6 GB when it is new) ...'
    forget_unfinished_packages
    install_stack || stop 'the stack was not installed: the lines above say why; run this again.'
    sources_digest > "$ENVIRONMENT_STAMP"
fi
. .venv/bin/activate
