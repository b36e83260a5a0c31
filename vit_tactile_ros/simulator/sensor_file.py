"""Sensor files: the numbers of a sensor model and their source, as JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vit_tactile_ros.foundation.errors import UserError, shown
from vit_tactile_ros.foundation.files import written_whole
from vit_tactile_ros.foundation.strict_json import build, parse_json

from .sensor import SensorConfig

_FOLDER = Path(__file__).parent / 'sensors'
MAX_SIZE = 1_000_000  # bytes of a file; ours have 2,000
# Lowest and highest value of each number in a file, by field name. Real sensors are far within these limits. Outside,
# rendering could exhaust the memory, take minutes or divide by zero. Units and randomised sensors, which are derived
# from a file, are not checked.
_LIMITS: dict[str, tuple[float, float]] = {
    'height': (32, 4096), 'width': (32, 4096), 'mm_per_px': (1e-3, 10),
    'azimuth_rad': (-100, 100), 'elevation_rad': (-10, 10), 'falloff': (-10, 10),
    'rgb': (-1e4, 1e4), 'background_rgb': (-1e4, 1e4), 'depth_rgb': (-1e4, 1e4),
    'x': (-10, 10), 'y': (-10, 10), 'width_x': (1e-3, 100), 'width_y': (1e-3, 100),
    'vignette': (0, 1), 'shadow': (0, 1), 'lens_blur_px': (0, 50), 'noise': (0, 255), 'texture': (0, 255),
    'specks': (0, 10_000), 'spread_mm': (0, 100), 'skin_mm': (0, 100), 'max_depth_mm': (1e-3, 100),
    'pitch_mm': (0.05, 100), 'radius_mm': (0, 100), 'darkness': (0, 1), 'reach_mm': (0.05, 100)}
_COUNTS = {'lights': (1, 64), 'glows': (0, 256), 'spread_mm': (1, 16), 'rgb': (3, 3), 'background_rgb': (3, 3),
           'depth_rgb': (3, 3)}
_MAX_DOTS = 100_000  # markers in view


class SensorFileError(UserError):
    """A sensor file that can't be used; the message names the file, the field and what would be right."""


def sensor_names() -> list[str]:
    """Names of the sensors that come with the package."""
    return sorted(path.stem for path in _FOLDER.glob('*.json'))


def load_sensor(sensor: str | Path) -> SensorConfig:
    """The sensor of that name (see `sensor_names`), or from a file ending in .json.

    Raises SensorFileError for an unknown name, and for a file that can't be read or has a missing, unknown or wrong
    value.
    """
    path = Path(sensor) if str(sensor).endswith('.json') else _FOLDER / f'{sensor}.json'
    try:
        if not path.is_file():
            raise SensorFileError(f'{sensor}: no such sensor; give a .json file or one of {", ".join(sensor_names())}')
        with path.open('rb') as file:
            text = file.read(MAX_SIZE + 1)
    except OSError as error:
        raise SensorFileError(f'{sensor}: cannot be read: {error.strerror}') from error
    if len(text) > MAX_SIZE:
        raise SensorFileError(f'{path}: is longer than {MAX_SIZE} bytes; not a sensor file')
    try:
        values = parse_json(text)
    except ValueError as error:
        raise SensorFileError(f'{path}: not JSON: {error}') from error
    try:
        config = build(SensorConfig, values, use_defaults=True)
    except ValueError as error:
        raise SensorFileError(f'{path}: {error}') from error
    _check(path, config)
    return config


def save_sensor(path: str | Path, config: SensorConfig) -> None:
    """Write `config` as a sensor file that `load_sensor` reads, whole or not at all.

    Raises SensorFileError for a config that could not be loaded again, OSError when it cannot be written.
    """
    _check(Path(path), config)
    with written_whole(path) as temporary:
        temporary.write_text(json.dumps(dataclasses.asdict(config), indent=2) + '\n', encoding='utf-8')


def _check(path: Path, config: SensorConfig) -> None:
    """Raises SensorFileError for a value that the simulator cannot handle."""
    def require(condition: bool, where: str, value: object, right: str) -> None:
        if not condition:
            raise SensorFileError(f'{path}: {where} is {shown(value)}; must be {right}')

    require(len(config.name) <= 255 and config.name.isprintable(), 'name', config.name,
            'at most 255 characters without control characters')
    for where, name, value in _values(config, ''):
        if name in _COUNTS and isinstance(value, tuple):
            lowest, highest = _COUNTS[name]
            require(lowest <= len(value) <= highest, where, value, 'three numbers: red, green, blue'
                    if lowest == highest else f'a list of {lowest} to {highest}')
        elif name in _LIMITS:
            low, high = _LIMITS[name]
            require(low <= value <= high, where, value, f'{low:g} to {high:g}')
    size_mm = 2 * max(config.half_size_mm)
    for where, spread in (('gel.spread_mm', max(config.gel.spread_mm)), ('gel.skin_mm', config.gel.skin_mm)):
        require(spread <= 4 * size_mm, where, spread, f'at most four times what the camera sees, {size_mm:g} mm')
    if config.markers:
        pitch = config.markers.pitch_mm
        dots = 4 * math.prod(half_mm / pitch for half_mm in config.half_size_mm)
        require(dots <= _MAX_DOTS, 'markers.pitch_mm', pitch, f'larger: {dots:.3g} dots would be in view')
        require(config.markers.radius_mm <= pitch, 'markers.radius_mm', config.markers.radius_mm,
                f'at most pitch_mm {pitch:g}')


def _values(value: Any, where: str, name: str = '') -> Iterator[tuple[str, str, Any]]:
    """(path, field name, value) of every value in a dataclass; a tuple's items follow it under its field name."""
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _values(getattr(value, field.name), f'{where}.{field.name}'.lstrip('.'), field.name)
        return
    yield where, name, value
    if isinstance(value, tuple):
        for i, item in enumerate(value):
            yield from _values(item, f'{where}[{i}]', name)
