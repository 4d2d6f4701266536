"""Prediction of pictures by a trained detector or segmentor, on top of OpenMMLab's inferencers.

.. code-block:: python

    predictor = load_predictor('det_configs/revcol_t_cascade.py', 'revcol_t_cascade.pth')
    image = read_image('street.jpg')
    picture = predictor.draw(image, predictor.predict([image])[0])
"""

from revcol_backbone.inference.images import read_image
from revcol_backbone.inference.predictor import Predictor, load_predictor

__all__ = ['Predictor', 'load_predictor', 'read_image']
