"""A simulator of camera-based touch sensors (GelSight-like and DIGIT-like): numpy and OpenCV only.

    rng = np.random.default_rng(0)
    unit = SensorUnit(GELSIGHT, rng)
    frame = unit.render(sample_contact('ring', GELSIGHT, rng), rng)   # uint8 (240, 320, 3) RGB
"""

from .contact import CLASS_NAMES, IMPRINT_NAMES, UNKNOWN, Contact
from .example import sample_example
from .friction import STATE_NAMES
from .gripper import GrippedObject
from .handling import HandlingSequence
from .imprint_example import sample_imprint_example
from .imprints import sample_imprint
from .sampling import sample_contact
from .sensor import Gel, Glow, Light, Markers, SensorConfig
from .sensor_file import SensorFileError, load_sensor, save_sensor, sensor_names
from .sequence import TouchSequence
from .small import draw_small, sample_small_example
from .state_example import sample_state_example
from .unit import SensorUnit

GELSIGHT = load_sensor('gelsight')
DIGIT = load_sensor('digit')

__all__ = ['CLASS_NAMES', 'Contact', 'DIGIT', 'GELSIGHT', 'Gel', 'Glow', 'GrippedObject', 'HandlingSequence',
           'IMPRINT_NAMES', 'Light', 'Markers', 'STATE_NAMES', 'SensorConfig', 'SensorFileError', 'SensorUnit',
           'TouchSequence', 'UNKNOWN', 'draw_small', 'load_sensor', 'sample_contact', 'sample_example',
           'sample_imprint', 'sample_imprint_example', 'sample_small_example', 'sample_state_example', 'save_sensor',
           'sensor_names']
