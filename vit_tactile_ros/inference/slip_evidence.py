"""What the gel shows over seconds, up to one image, about the held object."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class SlipEvidence(NamedTuple):
    """From `slip_network`."""

    states: NDArray[np.float32]  # probabilities of touch_events.STATES, (4,); equal where the image adds nothing
    lost: float  # log odds that no object is held; NaN during the first 2 s of a stream
