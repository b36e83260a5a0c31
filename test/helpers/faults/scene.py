"""What the camera of the fault suite sees: a simulated gel, untouched and touched."""

from __future__ import annotations

from array import array

import cv2
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from vit_tactile_ros.simulator import SensorUnit, load_sensor, sample_contact

FRAMES = 6  # of each kind, which differ by their noise


class Scene:
    """Frames without and with a touch, uint8 RGB (H, W, 3), of one unit of a simulated sensor."""

    def __init__(self, class_name: str = 'sphere', seed: int = 3) -> None:
        rng = np.random.default_rng(seed)
        config = load_sensor('gelsight')
        unit = SensorUnit(config, rng)
        contact = sample_contact(class_name, config, rng, depth_fraction=0.8)
        self.class_name = class_name
        self.untouched = [unit.render(None, rng)[::2, ::2].copy() for _ in range(FRAMES)]
        self.touched = [unit.render(contact, rng)[::2, ::2].copy() for _ in range(FRAMES)]
        self._messages: dict[int, Image] = {}

    def frame(self, number: int, is_touched: bool, is_compressed: bool = False) -> Image | CompressedImage:
        """A message of its own header, with shared pixels."""
        frames = self.touched if is_touched else self.untouched
        pixels = frames[number % FRAMES]
        if is_compressed:
            return compressed(cv2.imencode('.png', pixels[:, :, ::-1])[1].tobytes(), 'png')
        known = self._messages.get(id(pixels))
        if known is None:
            known = self._messages[id(pixels)] = message(pixels)
        return Image(header=Header(frame_id='gel'), height=known.height, width=known.width, encoding=known.encoding,
                     step=known.step, data=known.data)


def compressed(data: bytes, format_: str = 'jpeg') -> CompressedImage:
    found = array('B')
    found.frombytes(data)
    return CompressedImage(header=Header(frame_id='gel'), format=format_, data=found)


def message(pixels: NDArray[np.uint8], encoding: str = 'rgb8') -> Image:
    """A raw image without a stamp; `pixels` (H, W, channels) or (H, W)."""
    height, width = pixels.shape[:2]
    data = array('B')
    data.frombytes(np.ascontiguousarray(pixels).tobytes())
    return Image(header=Header(frame_id='gel'), height=height, width=width, encoding=encoding,
                 step=pixels.size * pixels.itemsize // height, data=data)
