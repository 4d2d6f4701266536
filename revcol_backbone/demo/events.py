"""What happens on the page: a picture comes, the slider moves, a visitor leaves."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from revcol_backbone.demo.memory import PictureMemory
from revcol_backbone.demo.predicted_picture import PredictedPicture, predict_picture
from revcol_backbone.demo.summary import say, summarize
from revcol_backbone.inference import Predictor, read_image
from revcol_backbone.inference.label_picture import draw_labels

INVITATION = 'Give a picture to see what the model finds in it.'
FORGOTTEN = 'The picture is no longer in memory; give it again.'


class DemoEvents:
    """The answers of one model to its visitors.

    The network runs once for each picture; the slider only draws again. It is the score threshold
    of a detector, and the opacity of a segmentor's colours.

    Args:
        predictor: The model.
        memory: Keeps each session's picture; by default one of its own.
    """

    def __init__(self, predictor: Predictor, memory: PictureMemory | None = None) -> None:
        self._predictor = predictor
        self._memory = PictureMemory() if memory is None else memory
        self.detects = predictor.inferencer.cfg.default_scope == 'mmdet'

    def predict(
        self, path: str | None, slider: float, session: str
    ) -> tuple[np.ndarray | None, str]:
        """Run the network on a picture and draw what it finds.

        Args:
            path: The picture's file, or ``None`` when it was taken away.
            slider: Between 0 and 1.
            session: Name of the visitor's session.

        Returns:
            The drawing, RGB, uint8 of shape (H, W, 3), and its summary as HTML; where the file is
            no picture, or none for this model, ``None`` and what is wrong with it.
        """
        self._memory.forget(session)
        if path is None:
            return None, say(INVITATION)
        try:
            picture = predict_picture(self._predictor, read_image(path))
        except ValueError as error:
            # The folder is the server's, and means nothing to a visitor.
            return None, say(str(error).replace(path, Path(path).name), is_problem=True)
        self._memory.keep(session, picture)
        return self._draw(picture, slider)

    def redraw(self, slider: float, session: str) -> tuple[np.ndarray | None, str]:
        """Draw the session's picture again; see :meth:`predict`."""
        picture = self._memory.recall(session)
        if picture is None:
            return None, say(FORGOTTEN)
        return self._draw(picture, slider)

    def leave(self, session: str) -> None:
        """Forget the session's picture."""
        self._memory.forget(session)

    def _draw(self, picture: PredictedPicture, slider: float) -> tuple[np.ndarray, str]:
        if self.detects:
            drawing = self._predictor.draw(picture.image, picture.prediction, slider)
        else:
            labels = picture.prediction.pred_sem_seg.data[0].numpy()
            # The summary is the legend, and hides nothing of the picture.
            drawing = draw_labels(picture.image, labels, self._predictor.palette, slider)
        rgb = np.ascontiguousarray(drawing[:, :, ::-1])
        return rgb, summarize(picture, self._predictor, slider)
