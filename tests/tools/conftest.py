"""Models that the commands predict with, as the tests of the predictors have them."""

from tests.inference.conftest import cascade, colour_detector, colour_segmentor, upernet

__all__ = ['cascade', 'colour_detector', 'colour_segmentor', 'upernet']
