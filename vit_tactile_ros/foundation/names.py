"""Which names of sensors and topics ROS takes; without ROS."""

from __future__ import annotations

import re

from vit_tactile_ros.foundation.errors import UserError, shown

SENSOR_NAME = re.compile(r'[A-Za-z]\w*(/[A-Za-z]\w*)*', re.ASCII)
_TOPIC = re.compile(r'/?[A-Za-z_]\w*(/[A-Za-z_]\w*)*', re.ASCII)


def check_topic(field: str, topic: str) -> None:
    """Raises UserError naming the field, unless `topic` is '' or a name of a topic."""
    if topic and not _TOPIC.fullmatch(topic):
        raise UserError(f'{field} is {shown(topic)}; must be names of letters, digits and _ with / between them, such '
                        'as /left/image_raw')
