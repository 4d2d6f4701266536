"""The command ``revcol``, apart from :mod:`revcol_backbone`, whose import loads torch.

So ``revcol --help``, ``revcol config`` and the completion of a shell answer at once; the other
commands import the package when they run.
"""

from revcol_cli.commands import main

__all__ = ['main']
