"""The last picture of each visitor, for as long as it is needed."""

from __future__ import annotations

import threading
from collections import OrderedDict

from revcol_backbone.demo.predicted_picture import PredictedPicture

DEFAULT_CAPACITY = 16


class PictureMemory:
    """One picture a session, of the sessions that were active last.

    Args:
        capacity: How many sessions to remember.
    """

    def __init__(self, capacity: int = DEFAULT_CAPACITY) -> None:
        self._pictures: OrderedDict[str, PredictedPicture] = OrderedDict()
        self._capacity = capacity
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._pictures)

    def keep(self, session: str, picture: PredictedPicture) -> None:
        """Keep a session's picture instead of its last one."""
        with self._lock:
            self._pictures[session] = picture
            self._pictures.move_to_end(session)
            while len(self._pictures) > self._capacity:
                self._pictures.popitem(last=False)

    def recall(self, session: str) -> PredictedPicture | None:
        """A session's picture, or ``None`` where there is none or it had to make room."""
        with self._lock:
            if session in self._pictures:
                self._pictures.move_to_end(session)
            return self._pictures.get(session)

    def forget(self, session: str) -> None:
        """Drop a session's picture, if there is one."""
        with self._lock:
            self._pictures.pop(session, None)
