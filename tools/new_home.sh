# Sourced: gives the commands that follow a new home, with pip's own configuration and nothing else,
# and a new folder for temporary files, so that what earlier runs left behind hides nothing.
# The folder of both is in NEW_HOME and is removed at exit.

# Names that lead to caches and settings outside the home, when they are set.
OUTSIDE_HOME='TORCH_HOME TORCH_EXTENSIONS_DIR TORCHINDUCTOR_CACHE_DIR TRITON_CACHE_DIR HF_HOME
    HF_HUB_CACHE HUGGINGFACE_HUB_CACHE MPLCONFIGDIR GRADIO_TEMP_DIR PYTHONPYCACHEPREFIX
    XDG_CACHE_HOME XDG_CONFIG_HOME XDG_DATA_HOME XDG_STATE_HOME'

new_home() {
    local old_home=$HOME old_config=${XDG_CONFIG_HOME:-$HOME/.config}
    NEW_HOME=$(mktemp -d)
    trap 'rm -rf "$NEW_HOME"' EXIT
    mkdir -p "$NEW_HOME/home/.config" "$NEW_HOME/tmp"
    [ ! -d "$old_config/pip" ] || cp -R "$old_config/pip" "$NEW_HOME/home/.config/pip"
    [ ! -d "$old_home/.pip" ] || cp -R "$old_home/.pip" "$NEW_HOME/home/.pip"
    unset $OUTSIDE_HOME
    export HOME=$NEW_HOME/home TMPDIR=$NEW_HOME/tmp
}

# What the commands since then left outside the checkout, two levels deep.
show_traces() {
    echo 'Left outside the checkout and its .venv:'
    find "$NEW_HOME" -mindepth 2 -maxdepth 4 -not -path '*/pip*' | sed "s|^$NEW_HOME/|    |" | sort
}
