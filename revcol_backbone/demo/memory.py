"""The last image of each visitor, for as long as it is needed."""

from __future__ import annotations

import threading
from collections import OrderedDict

from revcol_backbone.demo.predicted_image import PredictedImage

DEFAULT_CAPACITY = 16


class ImageMemory:
    """One image a session, of the sessions that were active last.

    Args:
        capacity: How many sessions to remember.
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
        """A session's image, or ``None`` where there is none or it had to make room."""
        with self._lock:
            if session in self._images:
                self._images.move_to_end(session)
            return self._images.get(session)

    def forget(self, session: str) -> None:
        """Drop a session's image, if there is one."""
        with self._lock:
            self._images.pop(session, None)
