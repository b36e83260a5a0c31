"""What is unusual about the images of one sensor of a recording, as text."""

from __future__ import annotations

from pathlib import Path

from vit_tactile_ros.inference.colour import GREY_NOTE
from vit_tactile_ros.inference.frames import SensorFrames


def sensor_notes(path: Path, frames: SensorFrames, sensor: str | None = None) -> list[str]:
    """Of grey images, a reference that did not fit, gaps before motion, and changes of the resolution."""
    of = '' if sensor is None else f' of sensor {sensor!r}'
    found = []
    if frames.grey_images:
        found.append(f'{path}: {frames.grey_images} of {frames.images} images{of} are grey; {GREY_NOTE}')
    if frames.monitor.worst.level:
        found.append(f'{path}: the reference{of}: {frames.monitor.worst.text}')
    if frames.motion_gaps:
        found.append(f'{path}: {frames.motion_gaps} of {frames.images} images{of} follow a gap or a stamp that went '
                     'back: their motion is taken as zero')
    if frames.resolution_changes:
        found.append(f'{path}: the resolution{of} changed, {frames.resolution_changes} times; a reference that is '
                     'captured is captured again each time')
    return found
