"""Models that the commands predict with, as the tests of the predictors have them."""

from tests.inference.conftest import cascade, color_detector, color_segmentor, upernet

__all__ = ['cascade', 'color_detector', 'color_segmentor', 'upernet']
