# Sourced from the root of the repository: makes .venv with the tested stack and activates it.
# Does nothing when .venv was completed for the present constraints.txt, setup.cfg and
# pyproject.toml; otherwise installs what is missing, also after an interruption.
# PYTHON names the interpreter to make .venv with; default: the newest supported one on the machine.

ENVIRONMENT_STAMP=.venv/installed-from
SUPPORTED_PYTHONS='python3.13 python3.12 python3.11'

stop() {
    echo "error: $*" >&2
    exit 1
}

make_venv() {
    local python
    python=${PYTHON:-$(find_python)}
    [ -n "$python" ] || stop \
        'Python 3.11, 3.12 or 3.13 is needed, and none of them was found:' \
        "install one, or name it as in 'PYTHON=/path/to/python3.12 bash $0'."
    "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2> /dev/null || stop \
        "'$python' is missing or is not Python 3.11, 3.12 or 3.13: name one of these," \
        "as in 'PYTHON=/path/to/python3.12 bash $0'."
    "$python" -m venv .venv || stop \
        "'$python -m venv' failed: install the venv module of this Python (Debian: python3-venv)."
}

# The first supported Python that starts: a name on the PATH may be a shim with nothing behind it.
find_python() {
    local python
    for python in $SUPPORTED_PYTHONS; do
        if "$python" -c '' 2> /dev/null; then
            echo "$python"
            return
        fi
    done
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

# openmim creates this folder when it is first imported, and fails if another process does so at the
# same time (mim/utils/default.py).
make_mim_cache() {
    mkdir -p ~/.cache/mim || stop "openmim needs the folder $HOME/.cache/mim, which cannot be created."
}

[ -f setup.cfg ] || stop "tools/environment.sh has to be sourced from the root of the repository."
.venv/bin/python -m pip --version > /dev/null 2>&1 || make_venv
if [ "$(cat "$ENVIRONMENT_STAMP" 2> /dev/null)" != "$(sources_digest)" ]; then
    echo 'Installing the stack into .venv (several minutes and about 6 GB when it is new) ...'
    forget_unfinished_packages
    install_stack || stop 'the stack was not installed: the lines above say why; run this again.'
    sources_digest > "$ENVIRONMENT_STAMP"
fi
make_mim_cache
. .venv/bin/activate
