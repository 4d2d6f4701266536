"""Prediction of images and videos by a trained model, on top of OpenMMLab's inferencers.

.. code-block:: python

    predictor = load_predictor('det_configs/revcol_t_cascade.py', 'revcol_t_cascade.pth')
    image = read_image('street.jpg')
    drawing = predictor.draw(image, predictor.predict([image])[0])
"""

from revcol_backbone.inference.loading import load_predictor
from revcol_backbone.inference.media import read_image
from revcol_backbone.inference.predictor import Predictor
from revcol_backbone.inference.run import Outcome, predict_files

__all__ = ['Outcome', 'Predictor', 'load_predictor', 'predict_files', 'read_image']
