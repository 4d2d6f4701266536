"""What all command-line tools of the project share."""

from revcol_backbone.cli.errors import INTERRUPTED, report_errors

__all__ = ['INTERRUPTED', 'report_errors']
