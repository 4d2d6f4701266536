"""RevCol in libraries outside OpenMMLab; each module imports its library, this package none."""
