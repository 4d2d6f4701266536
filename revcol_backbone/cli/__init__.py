"""What all command-line tools of the project share."""

from revcol_backbone.cli.arguments import ConfigOptions, port, positive_int
from revcol_backbone.cli.errors import INTERRUPTED, report_errors

__all__ = ['INTERRUPTED', 'ConfigOptions', 'port', 'positive_int', 'report_errors']
