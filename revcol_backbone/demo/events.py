"""Events of the page: an image is uploaded, the slider moves, a visitor leaves."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path

import numpy as np

from revcol_backbone.demo.predicted_image import PredictedImage, predict_image
from revcol_backbone.demo.summary import say, summarize
from revcol_backbone.inference import Predictor, read_image
from revcol_backbone.inference.drawing import draw_labels

DEFAULT_CAPACITY = 16
INVITATION = 'Upload an image to see what the model finds in it.'
FORGOTTEN = 'The image is no longer in memory; upload it again.'


class DemoEvents:
    """Runs one model for the visitors of the page.

    The network runs once for each image; the slider only redraws. It sets the score threshold of a
    detector, or the opacity of a segmentor's colors.

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
            path: The image's file, or ``None`` if it was removed.
            slider: Between 0 and 1.
            session: Name of the visitor's session.

        Returns:
            The drawing, RGB, uint8 of shape (H, W, 3), and its summary as HTML; for a file that is
            not an image or that the model cannot take, ``None`` and the reason.
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
        """Redraw the session's image; see :meth:`predict`."""
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


class ImageMemory:
    """The last image of each session, for the sessions that were active last.

    Args:
        capacity: Maximum number of sessions.
    """

    def __init__(self, capacity: int = DEFAULT_CAPACITY) -> None:
        self._images: OrderedDict[str, PredictedImage] = OrderedDict()
        self._capacity = capacity
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._images)

    def keep(self, session: str, image: PredictedImage) -> None:
        """Keep a session's image instead of its last one."""
        with self._lock:
            self._images[session] = image
            self._images.move_to_end(session)
            while len(self._images) > self._capacity:
                self._images.popitem(last=False)

    def recall(self, session: str) -> PredictedImage | None:
        """Return a session's image, or ``None`` if there is none or it had to make room."""
        with self._lock:
            if session in self._images:
                self._images.move_to_end(session)
            return self._images.get(session)

    def forget(self, session: str) -> None:
        """Drop a session's image, if there is one."""
        with self._lock:
            self._images.pop(session, None)
