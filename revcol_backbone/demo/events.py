"""What happens on the page: an image comes, the slider moves, a visitor leaves."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from revcol_backbone.demo.memory import ImageMemory
from revcol_backbone.demo.predicted_image import PredictedImage, predict_image
from revcol_backbone.demo.summary import say, summarize
from revcol_backbone.inference import Predictor, read_image
from revcol_backbone.inference.drawing import draw_labels

INVITATION = 'Give an image to see what the model finds in it.'
FORGOTTEN = 'The image is no longer in memory; give it again.'


class DemoEvents:
    """The answers of one model to its visitors.

    The network runs once for each image; the slider only draws again. It is the score threshold
    of a detector, and the opacity of a segmentor's colors.

    Args:
        predictor: The model.
        memory: Keeps each session's image; by default one of its own.
    """

    def __init__(self, predictor: Predictor, memory: ImageMemory | None = None) -> None:
        self._predictor = predictor
        self._memory = ImageMemory() if memory is None else memory
        self.detects = predictor.inferencer.cfg.default_scope == 'mmdet'

    def predict(
        self, path: str | None, slider: float, session: str
    ) -> tuple[np.ndarray | None, str]:
        """Run the network on an image and draw what it finds.

        Args:
            path: The image's file, or ``None`` when it was taken away.
            slider: Between 0 and 1.
            session: Name of the visitor's session.

        Returns:
            The drawing, RGB, uint8 of shape (H, W, 3), and its summary as HTML; where the file is
            not an image, or none for this model, ``None`` and what is wrong with it.
        """
        self._memory.forget(session)
        if path is None:
            return None, say(INVITATION)
        try:
            shown = predict_image(self._predictor, read_image(path))
        except ValueError as error:
            # The folder is the server's, and means nothing to a visitor.
            return None, say(str(error).replace(path, Path(path).name), is_problem=True)
        self._memory.keep(session, shown)
        return self._draw(shown, slider)

    def redraw(self, slider: float, session: str) -> tuple[np.ndarray | None, str]:
        """Draw the session's image again; see :meth:`predict`."""
        shown = self._memory.recall(session)
        if shown is None:
            return None, say(FORGOTTEN)
        return self._draw(shown, slider)

    def leave(self, session: str) -> None:
        """Forget the session's image."""
        self._memory.forget(session)

    def _draw(self, shown: PredictedImage, slider: float) -> tuple[np.ndarray, str]:
        if self.detects:
            drawing = self._predictor.draw(shown.image, shown.prediction, slider)
        else:
            labels = shown.prediction.pred_sem_seg.data[0].numpy()
            # The summary is the legend, and hides nothing of the image.
            drawing = draw_labels(shown.image, labels, self._predictor.palette, slider)
        rgb = np.ascontiguousarray(drawing[:, :, ::-1])
        return rgb, summarize(shown, self._predictor, slider)
