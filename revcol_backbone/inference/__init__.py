"""Prediction of pictures by a trained detector or segmentor, on top of OpenMMLab's inferencers.

.. code-block:: python

    predictor = load_predictor('det_configs/revcol_t_cascade.py', 'revcol_t_cascade.pth')
    image = read_image('street.jpg')
    picture = predictor.draw(image, predictor.predict([image])[0])
"""

from revcol_backbone.inference.files import Outcome, predict_files
from revcol_backbone.inference.images import read_image
from revcol_backbone.inference.loading import load_predictor
from revcol_backbone.inference.predictor import Predictor

__all__ = ['Outcome', 'Predictor', 'load_predictor', 'predict_files', 'read_image']
