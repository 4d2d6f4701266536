"""Train with the config of any of the libraries, as `mim train revcol_backbone CONFIG` does.

The arguments are those of tools/train.py of MMDetection, MMSegmentation or MMPretrain.
"""

from revcol_backbone.cli.codebase_scripts import run_library_script

if __name__ == '__main__':
    run_library_script('train')
