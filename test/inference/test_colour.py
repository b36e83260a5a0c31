"""Grey images are noticed, and no image of a colour sensor is called grey."""


import cv2
import numpy as np
import pytest
from real_data import real_data

from vit_tactile_ros.inference.colour import is_grey
from vit_tactile_ros.inference.preprocess import fit
from vit_tactile_ros.model import PreprocessingConfig
from vit_tactile_ros.simulator import SensorUnit, load_sensor, sensor_names

FITTED = PreprocessingConfig(image_size=(160, 224), reference='none', orientation='match', crop='center')


def gel(kind: str) -> np.ndarray:
    return SensorUnit(load_sensor(kind), np.random.default_rng(0)).reference


def grey(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def as_jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    return cv2.imdecode(cv2.imencode('.jpg', image, (cv2.IMWRITE_JPEG_QUALITY, quality))[1], cv2.IMREAD_COLOR)


@pytest.mark.parametrize('kind', sensor_names())
@pytest.mark.parametrize('change', (
    grey, lambda image: as_jpeg(grey(image), 30),
    lambda image: np.clip(grey(image) * np.array([0.98, 1.0, 1.02]), 0, 255).astype(np.uint8),  # white balance
    lambda image: np.clip(grey(image) + np.random.default_rng(0).integers(-1, 2, image.shape), 0, 255).astype(np.uint8),
    lambda image: (0.3 * grey(image)).astype(np.uint8)), ids=('grey', 'jpeg', 'tinted', 'noisy', 'dim'))
def test_grey_is_noticed(kind, change):
    """Predictions were right in one case of four, at a confidence of 0.99."""
    assert is_grey(fit(change(gel(kind)), FITTED)) is True


@pytest.mark.parametrize('kind', sensor_names())
@pytest.mark.parametrize('factor', (1.0, 0.3, 1.8))
def test_colour_is_not_grey(kind, factor):
    """A dim or bright image of a colour sensor."""
    assert is_grey(fit(np.clip(factor * gel(kind), 0, 255).astype(np.uint8), FITTED)) is False


@pytest.mark.parametrize('level', (0, 8, 255))
def test_too_dark_or_too_bright_to_say(level):
    """A camera that starts, or a lens that is covered."""
    assert is_grey(np.full((160, 224, 3), level, np.uint8)) is None


def test_one_colour_is_not_grey():
    """Red light alone: the green channel is black."""
    image = np.zeros((32, 48, 3), np.uint8)
    image[:, :, 0] = 200
    assert is_grey(image) is False


def test_small_and_odd_sizes():
    for shape in ((1, 1, 3), (17, 3, 3), (224, 224, 3)):
        assert is_grey(np.full(shape, 100, np.uint8)) is True


def test_no_real_image_is_called_grey():
    files = sorted(path for suffix in ('jpg', 'png') for path in real_data('').rglob(f'*.{suffix}'))
    assert files
    for path in files[::20]:
        image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        assert is_grey(fit(image, FITTED)) is False, path
        assert is_grey(fit(grey(image), FITTED)) is True, path
